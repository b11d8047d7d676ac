"""Extraction: maps and pooled features of one pass, in views, within a budget, never of test."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from graftline.core.errors import ParamsError
from graftline.core.params import Params
from graftline.core.records import Features, Trained
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.network.runners.litert import LiteRunner
from graftline.steps.extract import extract
from graftline.steps.freeze import freeze
from graftline.steps.train import train
from graftline.training.datasets import read_examples, read_pooled
from graftline.training.label_safety import LABEL_SAFETY, LabelSafety
from tests.model import small

LAST_BLOCK = {"last_blocks": 1}
TURNED = {"rotation_degrees": 25.0, "brightness": 0.2, "views": 3, "on_unsafe": "warn"}


def with_sections(params: Params, **sections: dict[str, Any]) -> Params:
    """The same parameters with some sections' keys changed."""
    changed = {
        name: getattr(params, name).model_copy(update=keys) for name, keys in sections.items()
    }
    return params.model_copy(update=changed)


def extracted(source: Workspace, root: Path, params: Params) -> Workspace:
    workspace = small.copied(source, root)
    freeze(workspace, params)
    extract(workspace, params)
    return workspace


def array(workspace: Workspace, name: str) -> NDArray[Any]:
    return np.load(workspace.features / f"{name}.npy")


@pytest.fixture(scope="module")
def views(assembled: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Maps and pooled features in three views."""
    params = with_sections(small.small_params(LAST_BLOCK), augment=TURNED)
    return extracted(assembled, tmp_path_factory.mktemp("views"), params)


def test_maps_and_pooled_features_come_of_one_pass(
    head_only: Workspace, last_block: Workspace
) -> None:
    record = Features.read(last_block.features / "features.json")
    for split in ("train", "validation"):
        maps, pooled = array(last_block, split), array(last_block, f"{split}-pooled")
        assert maps.shape == (record.counts[split], *record.shape)
        assert (record.dtype, maps.dtype) == ("float16", np.float16)
        assert pooled.dtype == np.float32
        # The same cut, once as the boundary and once beside the maps.
        np.testing.assert_allclose(pooled, array(head_only, split), atol=1e-5)
        examples = read_examples(last_block, split)
        assert (examples.images, examples.views) == (False, 1)
        assert examples.read(np.arange(2)).dtype == np.float16
        some = np.array([3, 1])
        np.testing.assert_array_equal(read_pooled(last_block, split).read(some), pooled[some])
        np.testing.assert_array_equal(
            read_pooled(head_only, split).read(some), array(head_only, split)[some]
        )


def test_the_types_differ_by_their_rounding_alone(
    assembled: Workspace, last_block: Workspace, tmp_path: Path
) -> None:
    params = with_sections(small.small_params(LAST_BLOCK), extract={"dtype": "float32"})
    exact = array(extracted(assembled, tmp_path, params), "train")
    assert exact.dtype == np.float32
    rounded = np.clip(exact, -65504, 65504).astype(np.float16)
    np.testing.assert_array_equal(array(last_block, "train"), rounded)


def test_what_16_bits_cannot_hold_is_clipped(
    assembled: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = LiteRunner.run
    monkeypatch.setattr(LiteRunner, "run", lambda self, images: run(self, images) * 1e8)
    workspace = extracted(assembled, tmp_path, small.small_params(LAST_BLOCK))
    maps = array(workspace, "train")
    assert np.isfinite(maps).all()
    assert maps.max() == np.finfo(np.float16).max
    assert array(workspace, "train-pooled").max() > np.finfo(np.float16).max


def test_views_differ_and_the_first_is_the_unchanged_image(
    views: Workspace, last_block: Workspace
) -> None:
    for name in ("train", "train-pooled"):
        changed, plain = array(views, name), array(last_block, name)
        assert changed.shape == (3, *plain.shape)
        np.testing.assert_array_equal(changed[0], plain)
        assert len({view.tobytes() for view in changed}) == 3
    for name in ("validation", "validation-pooled"):
        np.testing.assert_array_equal(array(views, name), array(last_block, name))
    examples = read_examples(views, "train")
    assert (examples.views, read_pooled(views, "train").views) == (3, 3)
    assert read_examples(views, "validation").views == 1
    some = np.array([5, 2])
    np.testing.assert_array_equal(examples.view(4).read(some), array(views, "train")[1, some])
    safety = LabelSafety.read(views.features / LABEL_SAFETY)
    assert [check.key for check in safety.changes] == [
        "augment.rotation_degrees",
        "augment.brightness",
    ]


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(
    views: Workspace, assembled: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = with_sections(small.small_params(LAST_BLOCK), augment=TURNED)
    # In batches of another size, too.
    monkeypatch.setattr(LiteRunner, "most_images", 24)
    again = extracted(assembled, tmp_path / "again", params)
    for path in sorted(views.features.iterdir()):
        assert (again.features / path.name).read_bytes() == path.read_bytes(), path.name
    other = extracted(assembled, tmp_path / "other", params.model_copy(update={"seed": 99}))
    np.testing.assert_array_equal(array(other, "train")[0], array(views, "train")[0])
    assert (array(other, "train")[1] != array(views, "train")[1]).any()


@pytest.mark.slow
def test_over_the_budget_training_reads_images(
    assembled: Workspace, last_block: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    params = with_sections(
        small.small_params(LAST_BLOCK), extract={"max_cache_gb": 1e-6}, train={"epochs": 2}
    )
    with caplog.at_level(logging.WARNING):
        workspace = extracted(assembled, tmp_path, params)
    assert "extract.max_cache_gb" in caplog.text
    record = Features.read(workspace.features / "features.json")
    assert record.boundary is None
    assert {path.name for path in workspace.features.iterdir()} == {
        "XXH128SUMS",
        "features.json",
        "train-pooled.npy",
        "validation-pooled.npy",
    }
    np.testing.assert_allclose(
        array(workspace, "train-pooled"), array(last_block, "train-pooled"), atol=1e-5
    )
    examples = read_examples(workspace, "validation")
    assert examples.images
    assert examples.read(np.arange(3)).dtype == np.uint8
    slow = train(workspace, params)
    cached = small.copied(last_block, tmp_path / "cached")
    fast = train(cached, params)
    assert slow.trainable_params == Trained.read(cached.trained / "trained.json").trainable_params
    assert slow.validation_loss == pytest.approx(fast.validation_loss, abs=0.05)


def test_no_split_but_the_two_is_looked_at(
    assembled: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: set[str] = set()
    batch = PackedImages.batch

    def noting(self: PackedImages, chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        shown.update(str(self.splits[index]) for index in chosen)
        return batch(self, chosen)

    monkeypatch.setattr(PackedImages, "batch", noting)
    params = with_sections(small.small_params("all"), augment={**TURNED, "views": 2})
    extracted(assembled, tmp_path, params)
    assert shown == {"train", "validation"}


def test_what_runs_at_once_is_bounded(
    assembled: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    run = LiteRunner.run

    def noting(self: LiteRunner, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        outputs = run(self, images)
        sizes.append(outputs.nbytes)
        return outputs

    limit_bytes = 60_000
    monkeypatch.setattr(LiteRunner, "most_bytes", limit_bytes)
    monkeypatch.setattr(LiteRunner, "run", noting)
    extracted(assembled, tmp_path, small.small_params(LAST_BLOCK))
    assert len(sizes) > 4
    assert max(sizes) <= limit_bytes


def test_a_harmful_change_leaves_the_earlier_features(
    head_only: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = small.copied(head_only, tmp_path)
    before = {path: path.read_bytes() for path in workspace.features.iterdir()}
    # Lying stripes become upright ones: the random backbone's probe is good enough to see it.
    params = with_sections(
        small.small_params("all"), augment={"rotation_degrees": 180.0, "views": 2}
    )
    with pytest.raises(ParamsError, match="rotation by up to 180 degrees"):
        extract(workspace, params)
    assert {path: path.read_bytes() for path in workspace.features.iterdir()} == before
