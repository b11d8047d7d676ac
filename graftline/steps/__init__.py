"""One module per step: it reads its inputs, calls the packages below, and writes its record."""
