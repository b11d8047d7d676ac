"""The project on disk and its processes: DVC, locks, leftovers, servers, what changed."""
