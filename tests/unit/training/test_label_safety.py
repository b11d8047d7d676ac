"""A change that makes another class of images is found, named, and refused."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from graftline.core.errors import ParamsError
from graftline.core.params import AugmentParams
from graftline.data.shards import PackedImages, Texts, coded
from graftline.training.label_safety import (
    ClassCheck,
    LabelSafety,
    check_labels,
    judge_labels,
    safety_rows,
)
from tests.unit.data.test_shards import pack

CLASSES = ("left", "right", "ring")
SIZE_PX = 12


def glyph(kind: str, seed: int) -> NDArray[np.uint8]:
    """A bar on one side with a foot, or a frame or a cross, and some noise."""
    random = np.random.default_rng(seed)
    image = np.zeros((SIZE_PX, SIZE_PX))
    top = random.integers(0, 3)
    if kind in ("left", "right"):
        image[top + 1 : top + 9, 2:4] = 200
        image[top + 7 : top + 9, 2:9] = 200
        image = image[:, ::-1] if kind == "right" else image
    elif kind == "cross":
        image[top + 1 : top + 9, 5:7] = image[top + 4 : top + 6, 2:10] = 200
    else:
        image[2:10, 2:10] = 200
        image[4:8, 4:8] = 0
    noisy = image + random.normal(0, 20, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)[..., None]


def packed_glyphs(folder: Path, per_class: int, kinds: tuple[str, ...] = CLASSES) -> PackedImages:
    names = [kind for kind in kinds for _ in range(per_class)]
    glyphs = [glyph(kind, seed) for seed, kind in enumerate(names)]
    labels = [kinds.index(kind) for kind in names]
    splits = ["train" if number % 5 else "test" for number in range(len(names))]
    return pack(folder, glyphs, labels=labels, splits=splits)


def pooled(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32) / 255


def checked(
    folder: Path, augment: AugmentParams, per_class: int = 60, kinds: tuple[str, ...] = CLASSES
) -> LabelSafety:
    return check_labels(packed_glyphs(folder, per_class, kinds), kinds, augment, 0, pooled)


def test_no_probe_is_asked_about_a_copy_of_what_it_was_fitted_to(tmp_path: Path) -> None:
    # Of noise without any pattern only those images are known that were seen.
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (SIZE_PX, SIZE_PX, 1), np.uint8) for _ in range(60)]
    labels = [number % 3 for number in range(60)]
    images = pack(tmp_path / "p", noise * 3, labels=labels * 3, splits=["train"] * 180)
    hashes = images.hashes.tolist()[:60] * 3
    images.hashes = Texts(coded(np.arange(180), hashes).cast("string"))
    safety = check_labels(images, CLASSES, AugmentParams(flip="horizontal"), 0, pooled)
    assert safety.asked == 60
    assert safety.probe_accuracy < 0.6


def test_a_flip_of_lopsided_glyphs_is_refused_naming_the_classes(tmp_path: Path) -> None:
    augment = AugmentParams(flip="horizontal")
    safety = checked(tmp_path / "p", augment)
    (flip,) = safety.changes
    assert safety.asked == 3 * 48, "the training images alone, each once"
    assert {check.name: check.taken_for for check in flip.unsafe} == {
        "left": "right",
        "right": "left",
    }
    with pytest.raises(ParamsError) as caught:
        judge_labels(safety, augment)
    assert caught.value.exit_code == 2
    text = str(caught.value)
    worst = flip.unsafe[0]
    assert f"{worst.name}: {worst.wrong} of {worst.right} (" in text
    assert "a horizontal flip" in text
    assert "augment.flip" in str(caught.value.where)
    assert "ring:" not in text


def test_what_harms_no_label_passes(tmp_path: Path) -> None:
    augment = AugmentParams(contrast=0.2, brightness=0.1, translation=0.05)
    safety = checked(tmp_path / "p", augment)
    judge_labels(safety, augment)
    assert [check.key for check in safety.changes] == [
        "augment.translation",
        "augment.contrast",
        "augment.brightness",
    ]


def test_a_flip_of_symmetric_patterns_passes(tmp_path: Path) -> None:
    augment = AugmentParams(flip="horizontal")
    safety = checked(tmp_path / "p", augment, kinds=("cross", "ring"))
    judge_labels(safety, augment)
    assert [check.right for check in safety.changes[0].classes] == [48, 48]


def test_each_flip_is_looked_at_alone(tmp_path: Path) -> None:
    safety = checked(tmp_path / "p", AugmentParams(flip="both", rotation_degrees=5))
    assert [check.change for check in safety.changes] == [
        "a horizontal flip",
        "a vertical flip",
        "a rotation by up to 5 degrees",
    ]
    rows = safety_rows(safety)
    assert [row[0] for row in rows] == [check.change for check in safety.changes]
    assert rows[0][1] == sum(check.right for check in safety.changes[0].classes)
    assert set(rows[0][3].split(", ")) == {"left", "right"}
    harmed = {name.name for name in safety.changes[0].unsafe}
    assert harmed == {"left", "right"}
    assert not safety.changes[2].unsafe


def test_a_warning_suffices_where_it_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    augment = AugmentParams(flip="horizontal", on_unsafe="warn")
    with caplog.at_level(logging.WARNING):
        judge_labels(checked(tmp_path / "p", augment), augment)
    assert "a horizontal flip turns right answers into wrong ones" in caplog.text
    assert "taken for right" in caplog.text


def test_a_poor_probe_refuses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    augment = AugmentParams(flip="horizontal")
    safety = checked(tmp_path / "p", augment).model_copy(update={"probe_accuracy": 0.6})
    with caplog.at_level(logging.WARNING):
        judge_labels(safety, augment)
    assert "60% of unchanged images" in caplog.text


def test_a_class_is_unsafe_by_its_bound_not_by_its_share(tmp_path: Path) -> None:
    (flip,) = checked(tmp_path / "p", AugmentParams(flip="horizontal", unsafe_drop=0.9)).changes
    harmed = [check for check in flip.classes if check.wrong]
    assert len(harmed) == 2
    for check in harmed:
        assert check.at_least < check.wrong / check.right
        assert check.unsafe is (check.at_least > 0.9)


def test_the_same_seed_asks_about_the_same_images(tmp_path: Path) -> None:
    images = packed_glyphs(tmp_path / "p", 20)
    augment = AugmentParams(rotation_degrees=40, flip="vertical")
    first, again = (check_labels(images, CLASSES, augment, 4, pooled) for _ in range(2))
    assert first == again


def test_one_class_and_no_images_are_nothing_to_judge(tmp_path: Path) -> None:
    augment = AugmentParams(flip="horizontal")
    for per_class, kinds in ((10, ("ring",)), (1, ("left", "right"))):
        folder = tmp_path / kinds[0]
        safety = checked(folder, augment, per_class, kinds)
        judge_labels(safety, augment)
        assert all(isinstance(one, ClassCheck) for one in safety.changes[0].classes)
