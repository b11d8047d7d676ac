"""The order of the steps: what runs when, and nothing else."""
