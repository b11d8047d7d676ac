"""What is kept of the frozen part's outputs: which, in what type, how many views, and why not."""

from __future__ import annotations

import math

import numpy as np

from graftline.artifacts import Assembled, Features, FreezePlan, Split
from graftline.params import AugmentParams, ExtractParams
from graftline.plans import POOLED

_GB = 1e9


def planned_features(
    assembled: Assembled,
    plan: FreezePlan,
    counts: dict[Split, int],
    augment: AugmentParams,
    extract: ExtractParams,
    *,
    free_bytes: int,
) -> Features:
    """What is to be kept: a function of the trunk, the plan, the parameters and the disk.

    Args:
        assembled: The trunk.
        plan: Where it is cut and what trains.
        counts: Images by split.
        augment: Whether there are several views of a training image.
        extract: Type and limit of the feature maps.
        free_bytes: Free space where they go.
    """
    pooled_dim = assembled.feature_dim(plan.cut)
    record = Features(
        cut=plan.cut,
        boundary=POOLED,
        shape=(pooled_dim,),
        dtype="float32",
        counts=counts,
        views=augment.views if augment.active else 1,
        pooled_dim=pooled_dim,
        uncached_reason=None,
    )
    if plan.boundary == POOLED:
        return record
    if plan.boundary is None:
        return _without_maps(
            record, "the first layers train, so that nothing frozen lies before them"
        )
    shape = assembled.up_to(plan.boundary)[-1].output_shape
    map_bytes = cached_rows(record) * math.prod(shape) * np.dtype(extract.dtype).itemsize
    pooled_bytes = cached_rows(record) * pooled_dim * np.dtype(np.float32).itemsize
    needed = f"the outputs of {plan.boundary} would take {map_bytes / _GB:.3g} GB"
    if map_bytes > extract.max_cache_gb * _GB:
        limit = f"more than extract.max_cache_gb allows ({extract.max_cache_gb:g})"
        return _without_maps(record, f"{needed}, {limit}")
    if map_bytes + pooled_bytes > free_bytes:
        left = f"and the disk has {free_bytes / _GB:.3g} GB left"
        return _without_maps(record, f"{needed}, {left}")
    maps = {"boundary": plan.boundary, "shape": shape, "dtype": extract.dtype}
    return record.model_copy(update=maps)


def cached_rows(record: Features) -> int:
    """Rows over both splits, each view of a training image counted."""
    return record.counts["train"] * record.views + record.counts["validation"]


def has_maps(record: Features) -> bool:
    """Whether feature maps are kept beside the pooled features."""
    return record.boundary not in (None, POOLED)


def _without_maps(record: Features, reason: str) -> Features:
    nothing = {"boundary": None, "shape": (), "dtype": None, "uncached_reason": reason}
    return record.model_copy(update=nothing)
