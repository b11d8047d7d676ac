"""A candidate's feature cache as ``extract`` would keep it, and so how ``train`` would train it."""

from __future__ import annotations

from graftline.core.records import Assembled, Features, FreezePlan, Split
from graftline.data.shards import PackedImages
from graftline.selection.candidates import Candidate
from graftline.selection.settings import Settings
from graftline.training.feature_cache import planned_features

_SPLITS: tuple[Split, ...] = ("train", "validation")


def planned_outputs(
    assembled: Assembled, plan: FreezePlan, images: PackedImages, settings: Settings
) -> Features:
    """Boundary, type and views of what is kept under a plan.

    Args:
        assembled: The backbone.
        plan: What trains.
        images: The preprocessed images.
        settings: ``augment`` and ``extract`` are read.
    """
    counts = {split: len(images.indices(split)) for split in _SPLITS}
    return planned_features(assembled, plan, counts, settings.augment, settings.extract)


def as_kept(
    candidate: Candidate, assembled: Assembled, images: PackedImages, settings: Settings
) -> Candidate:
    """A candidate with the costs that it has where its feature maps are too large to be kept."""
    kept = planned_outputs(assembled, candidate.plan, images, settings)
    if kept.boundary is not None or candidate.plan.boundary is None:
        return candidate
    step_cost = candidate.once_cost + candidate.step_cost
    return candidate.model_copy(update={"once_cost": 0, "step_cost": step_cost})
