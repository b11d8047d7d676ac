"""The command line: the parser, and one small module for what each command shows."""
