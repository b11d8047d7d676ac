"""What every other package stands on: parameters, records, errors, files, processes, progress."""
