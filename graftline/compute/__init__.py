"""Where the work runs: how many cores there are, and chunks of work on threads or on a cluster."""
