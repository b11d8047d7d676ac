"""Prefect's view of the steps: one task for each, which has the DVC stage of its name run."""
