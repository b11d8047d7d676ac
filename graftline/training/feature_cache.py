"""The kept outputs of the frozen part: which, in which type, how many views, and why not."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np

from graftline.core.errors import StorageFullError
from graftline.core.params import AugmentParams, ExtractParams
from graftline.core.records import Assembled, Features, FreezePlan, Split
from graftline.core.stages import POOLED

_GB = 1e9


def planned_features(
    assembled: Assembled,
    plan: FreezePlan,
    counts: dict[Split, int],
    augment: AugmentParams,
    extract: ExtractParams,
) -> Features:
    """What is to be kept: a function of the backbone, the plan and the parameters alone.

    Whether maps are kept decides how images are augmented, and so the weights: the machine must
    have no say in it.

    Args:
        assembled: The backbone.
        plan: Where it is cut and what trains.
        counts: Images by split.
        augment: Whether there are several views of a training image.
        extract: Type and limit of the feature maps.
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
    maps = {"boundary": plan.boundary, "shape": shape, "dtype": extract.dtype}
    with_maps = record.model_copy(update=maps)
    needed_bytes = map_bytes(with_maps)
    if needed_bytes > extract.max_cache_gb * _GB:
        return _without_maps(
            record,
            f"the outputs of {plan.boundary} would take {needed_bytes / _GB:.3g} GB, more than "
            f"extract.max_cache_gb allows ({extract.max_cache_gb:g})",
        )
    return with_maps


def refuse_overfull(record: Features, target: Path) -> None:
    """Refuses outputs for which the disk has no room, before any is computed.

    Args:
        record: What is to be kept.
        target: The folder that they go into. What lies there stays until they are whole.

    Raises:
        StorageFullError: If they take more than is free where the folder is to be.
    """
    pooled_bytes = cached_rows(record) * record.pooled_dim * np.dtype(np.float32).itemsize
    needed_bytes = map_bytes(record) + pooled_bytes
    free_bytes = shutil.disk_usage(target.parent).free
    if needed_bytes <= free_bytes:
        return
    fix = "free some space and run again; the earlier output is untouched"
    if has_maps(record):
        fix += (
            f"; or set extract.max_cache_gb to {map_bytes(record) / _GB / 2:.2g}, and training "
            f"reads images, of which only pooled features ({pooled_bytes} bytes) are kept"
        )
    raise StorageFullError(
        f"the features take {needed_bytes} bytes, and {free_bytes} are free on the disk",
        where=str(target),
        fix=fix,
    )


def cached_rows(record: Features) -> int:
    """Rows over both splits, each view of a training image counted."""
    return record.counts["train"] * record.views + record.counts["validation"]


def map_bytes(record: Features) -> int:
    """What the feature maps of all rows take on the disk; 0 if none are kept."""
    if not has_maps(record):
        return 0
    return cached_rows(record) * math.prod(record.shape) * np.dtype(record.dtype).itemsize


def has_maps(record: Features) -> bool:
    """Whether feature maps are kept beside the pooled features."""
    return record.boundary not in (None, POOLED)


def _without_maps(record: Features, reason: str) -> Features:
    nothing = {"boundary": None, "shape": (), "dtype": None, "uncached_reason": reason}
    return record.model_copy(update=nothing)
