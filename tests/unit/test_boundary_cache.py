"""What is cached follows from plan, parameters and disk alone."""

from __future__ import annotations

import math

import pytest

from graftline.artifacts import Features, FreezePlan, Split
from graftline.boundary_cache import cached_rows, has_maps, planned_features
from graftline.params import AugmentParams, ExtractParams
from graftline.plans import POOLED, plan_freezing
from graftline.summaries import sentence
from tests.unit.test_freeze import assembled

BOUNDARY = "block_1_add"
COUNTS: dict[Split, int] = {"train": 800, "validation": 100}
PLENTY_BYTES = 10**12


def planned(
    boundary: str | None,
    augment: AugmentParams | None = None,
    extract: ExtractParams | None = None,
    free_bytes: int = PLENTY_BYTES,
) -> Features:
    plan: FreezePlan = plan_freezing(assembled(), "all").model_copy(update={"boundary": boundary})
    return planned_features(
        assembled(),
        plan,
        COUNTS,
        augment or AugmentParams(),
        extract or ExtractParams(),
        free_bytes=free_bytes,
    )


def map_values() -> int:
    return math.prod(assembled().up_to(BOUNDARY)[-1].output_shape)


def test_a_frozen_trunk_leaves_pooled_features() -> None:
    record = planned(POOLED)
    assert (record.boundary, record.dtype) == (POOLED, "float32")
    assert record.shape == (record.pooled_dim,) == (assembled().feature_dim(record.cut),)
    assert record.uncached_reason is None
    assert not has_maps(record)
    assert "no feature maps" not in sentence(record)


def test_maps_are_kept_in_the_type_that_was_asked_for() -> None:
    record = planned(BOUNDARY, extract=ExtractParams(dtype="float32"))
    assert (record.boundary, record.dtype) == (BOUNDARY, "float32")
    assert record.shape == assembled().up_to(BOUNDARY)[-1].output_shape
    assert has_maps(record)
    assert f"{record.pooled_dim} pooled features each at {record.cut}" in sentence(record)


def test_with_nothing_frozen_in_front_the_reason_is_told() -> None:
    record = planned(None)
    assert (record.boundary, record.shape, record.dtype) == (None, (), None)
    assert "the first layers train" in str(record.uncached_reason)
    assert record.uncached_reason in sentence(record)


def test_views_count_for_training_images_and_only_where_something_changes() -> None:
    assert planned(POOLED, AugmentParams(views=5)).views == 1
    record = planned(POOLED, AugmentParams(views=5, flip="horizontal"))
    assert record.views == 5
    assert cached_rows(record) == 5 * 800 + 100
    assert "5 views" in sentence(record)


@pytest.mark.parametrize(("dtype", "item_bytes"), [("float16", 2), ("float32", 4)])
@pytest.mark.parametrize("views", [1, 4])
def test_the_limit_counts_every_view_in_its_type(dtype: str, item_bytes: int, views: int) -> None:
    augment = AugmentParams(views=views, flip="horizontal")
    needed_gb = (800 * views + 100) * map_values() * item_bytes / 1e9
    for limit_gb, kept in ((needed_gb * 1.001, True), (needed_gb * 0.999, False)):
        extract = ExtractParams.model_validate({"dtype": dtype, "max_cache_gb": limit_gb})
        record = planned(BOUNDARY, augment, extract)
        assert has_maps(record) is kept
        assert (record.uncached_reason is None) is kept
        assert record.views == views
    assert BOUNDARY in str(record.uncached_reason)
    assert "extract.max_cache_gb" in str(record.uncached_reason)


def test_maps_that_the_disk_has_no_room_for_are_not_begun() -> None:
    needed_bytes = 900 * (map_values() * 2 + planned(BOUNDARY).pooled_dim * 4)
    assert has_maps(planned(BOUNDARY, free_bytes=needed_bytes))
    full = planned(BOUNDARY, free_bytes=needed_bytes - 1)
    assert full.boundary is None
    assert "the disk has" in str(full.uncached_reason)
