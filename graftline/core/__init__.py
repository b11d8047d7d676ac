"""The base of every other package: parameters, records, errors, files, processes, progress."""
