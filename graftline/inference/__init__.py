"""The finished model at work: predictions, batches, the service, drift."""
