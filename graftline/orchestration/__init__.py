"""Prefect: runs each stage as a task, settles what a run leaves, keeps schedules."""
