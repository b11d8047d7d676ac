"""``python -m graftline``: the command line."""

from graftline.cli.main import entry

if __name__ == "__main__":
    entry()
