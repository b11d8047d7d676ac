"""The stages of the pipeline, which ``dvc.yaml`` has in this order, and what they share."""

from __future__ import annotations

STAGES = ("load", "preprocess", "assemble", "freeze", "extract", "train", "evaluate", "export")
POOLED = "pooled"
"""The boundary when the whole backbone is frozen: what is cached are pooled features."""
