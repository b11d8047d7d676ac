"""What is cached follows from plan and parameters alone; without room for it nothing begins."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import pytest

from graftline.core.errors import StorageFullError
from graftline.core.params import AugmentParams, ExtractParams
from graftline.core.records import Features, FreezePlan, Split
from graftline.core.stages import POOLED
from graftline.core.summaries import sentence
from graftline.network.freeze_plans import plan_freezing
from graftline.training import feature_cache
from graftline.training.feature_cache import (
    cached_rows,
    has_maps,
    planned_features,
    refuse_overfull,
)
from tests.unit.steps.test_freeze import assembled

BOUNDARY = "block_1_add"
COUNTS: dict[Split, int] = {"train": 800, "validation": 100}


def planned(
    boundary: str | None, augment: AugmentParams | None = None, extract: ExtractParams | None = None
) -> Features:
    plan: FreezePlan = plan_freezing(assembled(), "all").model_copy(update={"boundary": boundary})
    return planned_features(
        assembled(), plan, COUNTS, augment or AugmentParams(), extract or ExtractParams()
    )


def map_values() -> int:
    return math.prod(assembled().up_to(BOUNDARY)[-1].output_shape)


def test_a_frozen_backbone_leaves_pooled_features() -> None:
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


def test_what_the_disk_has_no_room_for_is_refused_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = planned(BOUNDARY)
    # 900 images of 24 x 24 x 24 halves and of 576 pooled features in 32 bits.
    needed_bytes = 900 * (map_values() * 2 + record.pooled_dim * 4)
    folder = tmp_path / "features"
    free(monkeypatch, needed_bytes)
    refuse_overfull(record, folder)
    free(monkeypatch, needed_bytes - 1)
    with pytest.raises(StorageFullError) as caught:
        refuse_overfull(record, folder)
    assert f"take {needed_bytes} bytes, and {needed_bytes - 1} are free" in str(caught.value)
    assert caught.value.where == str(folder)
    assert caught.value.exit_code == 2
    # The same plan, whatever is free; and the value that is named does without the maps.
    assert planned(BOUNDARY) == record
    (said,) = re.findall(r"set extract.max_cache_gb to (\S+),", str(caught.value.fix))
    smaller = planned(BOUNDARY, extract=ExtractParams(max_cache_gb=float(said)))
    assert not has_maps(smaller)
    refuse_overfull(smaller, folder)


def test_where_even_pooled_features_do_not_fit_no_parameter_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = planned(POOLED)
    free(monkeypatch, 900 * record.pooled_dim * 4 - 1)
    with pytest.raises(StorageFullError) as caught:
        refuse_overfull(record, tmp_path / "features")
    assert caught.value.fix == "free some space and run again; the earlier output is untouched"
    free(monkeypatch, 900 * record.pooled_dim * 4)
    refuse_overfull(record, tmp_path / "features")


def free(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    usage = shutil.disk_usage(".")._replace(free=free_bytes)
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda _: usage)
