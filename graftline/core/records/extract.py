"""The record of the step ``extract``."""

from __future__ import annotations

from typing import ClassVar, Literal

from graftline.core.records.load import Split
from graftline.core.records.record import Record


class Features(Record):
    """``data/features/features.json``: the frozen part's outputs, and the pooled features."""

    lies_at: ClassVar[str] = "data/features/features.json"

    cut: str
    """As in the plan: where the backbone ends and the pooled features are taken."""
    boundary: str | None
    """The layer whose outputs are cached, or ``pooled``; with null, training reads images."""
    shape: tuple[int, ...]
    """Of one image's outputs at the boundary; empty when there are none."""
    dtype: Literal["float16", "float32"] | None
    """Of the outputs at the boundary; null when there are none."""
    counts: dict[Split, int]
    """Images by split: ``train`` and ``validation`` only."""
    views: int
    """Of each training image. Above 1 the training split's arrays begin with an axis of views, of
    which the first are the unchanged images."""
    pooled_dim: int
    """The number of pooled features, which are always kept."""
    uncached_reason: str | None
    """Why no outputs at a boundary are kept; null when they are."""
