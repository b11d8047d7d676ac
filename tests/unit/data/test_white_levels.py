"""What is white in images of more than 8 bits: one rule for a data set, told or refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graftline.core.errors import DataError
from graftline.core.records import Dataset, WhiteLevels
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.data.white_levels import DeepImage, rule_of
from graftline.steps.load import load
from graftline.steps.preprocess import preprocess
from tests.unit.data.image_forms import in_order, png, tiff
from tests.unit.data.loading import encoded, params, pixels, refused, write_folder

DIM = [png(2, 1, 16, 0, [struct.pack(">2H", number, 4000 - number)]) for number in range(20)]
"""12 bits in files of 16."""


def floats(*values: float) -> bytes:
    return encoded(np.array([values], np.float32), "TIFF")


def write(root: Path, files: list[bytes]) -> None:
    """Two classes of at least ten images each."""
    write_folder(root, {"a": 10, "b": 10})
    for number, data in enumerate(files):
        (root / "ab"[number % 2] / f"deep-{number:02}").write_bytes(data)


def shown(workspace: Workspace, source: Path, **data: Any) -> dict[str, list[int]]:
    """What training sees of the deep images, by name."""
    wanted = params("folder", source, **data)
    load(workspace, wanted)
    preprocess(workspace, wanted)
    images = PackedImages.open(workspace.preprocessed)
    return {
        name[2:]: images.image(at).ravel().tolist()
        for at, name in enumerate(images.names)
        if "deep" in name
    }


def test_few_bits_are_refused_with_the_level_to_set(tmp_path: Path) -> None:
    write(tmp_path / "source", DIM)
    error = refused(Workspace(tmp_path / "checkout"), params("folder", tmp_path / "source"))
    assert "20 16-bit images, the largest value 4000 where 65535 would be white" in error.what
    assert error.where == "data.white_level: null"
    assert error.fix == (
        "set data.white_level to 4095 (12 bits) or 16383 (14 bits) or 65535 (all that the files "
        "can hold; the images are dark)"
    )


def test_skipping_broken_images_skips_no_doubt(tmp_path: Path) -> None:
    write(tmp_path / "source", DIM)
    wanted = params("folder", tmp_path / "source", on_corrupt="skip")
    assert "leave open what is white" in refused(Workspace(tmp_path / "checkout"), wanted).what


@pytest.mark.parametrize(("level", "expected"), [(4095, [0, 249]), (65535, [0, 16])])
def test_what_is_told_is_what_all_are_scaled_by(
    tmp_path: Path, level: int, expected: list[int]
) -> None:
    write(tmp_path / "source", DIM)
    workspace = Workspace(tmp_path / "checkout")
    assert shown(workspace, tmp_path / "source", white_level=level)["deep-00"] == expected
    white = Dataset.read(workspace.loaded / "dataset.json").white
    assert white == WhiteLevels(level=level, kinds=("16-bit",))


def test_what_was_loaded_opens_by_the_rule_that_lies_beside_it(tmp_path: Path) -> None:
    """As ``evaluate`` opens it, and every worker that preprocesses."""
    write(tmp_path / "source", DIM)
    workspace = Workspace(tmp_path / "checkout")
    load(workspace, params("folder", tmp_path / "source", white_level=4095))
    images = PackedImages.open(workspace.loaded)
    at = next(at for at, name in enumerate(images.names) if "deep-00" in name)
    assert images.image(at).ravel().tolist() == [0, 249]


def test_one_bright_image_tells_for_all(tmp_path: Path) -> None:
    write(tmp_path / "source", [*DIM, png(1, 1, 16, 0, [b"\xff\xff"])])
    seen = shown(Workspace(tmp_path / "checkout"), tmp_path / "source")
    assert (seen["deep-00"], seen["deep-20"]) == ([0, 16], [255])


def test_an_image_above_the_level_cannot_be_used(tmp_path: Path) -> None:
    write(tmp_path / "source", DIM)
    wanted = params("folder", tmp_path / "source", white_level=3999)
    words = refused(Workspace(tmp_path / "checkout"), wanted).what
    assert "1 image cannot be used" in words
    assert "has the raw value 4000, above white, which is 3999" in words


def test_12_bits_in_files_of_32(tmp_path: Path) -> None:
    write(tmp_path / "source", [tiff(1, 1, [in_order([4095], "u4")], (32,))])
    error = refused(Workspace(tmp_path / "checkout"), params("folder", tmp_path / "source"))
    assert "1 32-bit image, the largest value 4095" in error.what
    assert "4095 (12 bits)" in str(error.fix)


def test_floating_point_values_up_to_1(tmp_path: Path) -> None:
    write(tmp_path / "source", [floats(0, 0.5), floats(0.25, 1)])
    seen = shown(Workspace(tmp_path / "checkout"), tmp_path / "source")
    assert seen == {"deep-00": [0, 128], "deep-01": [64, 255]}


def test_a_dark_image_of_floating_point_values_is_scaled_as_the_others(tmp_path: Path) -> None:
    files = [floats(0, 1), floats(0, 200)]
    write(tmp_path / "source", files)
    workspace = Workspace(tmp_path / "checkout")
    error = refused(workspace, params("folder", tmp_path / "source"))
    assert "2 floating-point images, the largest value 200 where 1 would be white" in error.what
    assert "set data.white_level to 255 (8 bits)" in str(error.fix)
    seen = shown(workspace, tmp_path / "source", white_level=255)
    assert seen == {"deep-00": [0, 1], "deep-01": [0, 200]}


def test_one_level_cannot_serve_whole_numbers_and_fractions(tmp_path: Path) -> None:
    write(tmp_path / "source", [floats(0, 1), DIM[0]])
    wanted = params("folder", tmp_path / "source", white_level=4095)
    assert "of two natures" in refused(Workspace(tmp_path / "checkout"), wanted).what


def test_a_level_is_checked() -> None:
    from graftline.core.errors import ParamsError

    with pytest.raises(ParamsError, match="white_level"):
        params("mnist-5k", white_level=0)


def image(kind: str = "16-bit", full: float = 65535, largest: float = 60000) -> DeepImage:
    return DeepImage(kind, full, largest)


@pytest.mark.parametrize(
    ("levels", "deep", "white"),
    [
        (WhiteLevels(), image(), 65535),
        (WhiteLevels(kinds=("16-bit",)), image(largest=3), 65535),
        (WhiteLevels(level=4095), image(largest=4095), 4095),
        (WhiteLevels(level=65535, kinds=("16-bit",)), image("12-bit", 4095, 30), 4095),
        (WhiteLevels(level=255, kinds=("floating-point",)), image("floating-point", 1, 9), 255),
        (WhiteLevels(kinds=("floating-point",)), image("floating-point", 1, 0.1), 1),
        (WhiteLevels(), image(largest=32767), None),
        (WhiteLevels(), image("floating-point", 1, 0.9), None),
        (WhiteLevels(kinds=("16-bit",)), image("32-bit", 2**32 - 1, 60000), None),
        (WhiteLevels(level=4095, kinds=("16-bit",)), image(largest=4096), None),
        (WhiteLevels(level=4095, kinds=("16-bit",)), image("floating-point", 1, 1), None),
        (WhiteLevels(kinds=("floating-point",)), image("floating-point", 1, 1.5), None),
    ],
)
def test_what_a_later_image_is_scaled_by(
    levels: WhiteLevels, deep: DeepImage, white: float | None
) -> None:
    if white is None:
        with pytest.raises(DataError):
            rule_of(levels)(deep)
    else:
        assert rule_of(levels)(deep) == white


def test_images_of_8_bits_need_no_level(tmp_path: Path) -> None:
    write(tmp_path / "source", [encoded(pixels(77))])
    dataset = load(Workspace(tmp_path / "checkout"), params("folder", tmp_path / "source"))
    assert dataset.white == WhiteLevels()
