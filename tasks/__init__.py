"""One task per step: its name, its limits, what it shows in Prefect."""
