from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from graftline.core.checksums import seal
from graftline.core.errors import DataError, GraftlineError, MissingOutputError
from graftline.core.records import Preprocessed
from graftline.core.workspace import Workspace
from graftline.data.resize import shrink
from graftline.data.shards import PackedImages
from graftline.steps.load import load
from graftline.steps.preprocess import preprocess
from tests.unit.data.loading import contents, encoded, params, pixels, write_folder, write_idx


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "checkout")


def test_small_images_pass_as_they_are(workspace, tmp_path):
    write_idx(tmp_path / "source", "train", 20)
    chosen = params("idx", tmp_path / "source", size_px=32)
    dataset = load(workspace, chosen)
    record = preprocess(workspace, chosen)
    assert record == Preprocessed.read(workspace.preprocessed / "preprocessed.json")
    assert record == Preprocessed(
        dataset_digest=dataset.digest,
        size_px=32,
        classes=("0", "1"),
        counts={"train": 14, "validation": 2, "test": 4},
        uniform_shape=(6, 8, 1),
        shrunk=0,
        drawings=True,
    )
    loaded, packed = PackedImages.open(workspace.loaded), PackedImages.open(workspace.preprocessed)
    assert packed.hashes.tolist() == loaded.hashes.tolist()
    assert packed.labels.tolist() == loaded.labels.tolist()
    assert packed.splits.tolist() == loaded.splits.tolist()
    assert packed.names.tolist() == loaded.names.tolist()
    np.testing.assert_array_equal(packed.batch(range(20)), loaded.batch(range(20)))


def test_large_images_are_shrunk_and_decoded_once(workspace, tmp_path):
    source = tmp_path / "source"
    write_folder(source, {"a": 4, "b": 4})
    (source / "a" / "large.png").write_bytes(encoded(pixels(50, (100, 40, 3))))
    chosen = params("folder", source, size_px=64)
    load(workspace, chosen)
    record = preprocess(workspace, chosen)
    assert record.shrunk == 1
    assert not record.drawings, "one in colour, and larger than a drawing"
    assert record.uniform_shape is None
    packed = PackedImages.open(workspace.preprocessed)
    large = packed.names.tolist().index("a/large.png")
    np.testing.assert_array_equal(packed.image(large), shrink(pixels(50, (100, 40, 3)), 64))
    size_bytes = 8 * 6 * 8 + 64 * 40 * 3
    assert (workspace.preprocessed / "images-00000.bin").stat().st_size == size_bytes


def test_the_same_input_gives_the_same_files(workspace, tmp_path):
    source = tmp_path / "source"
    write_folder(source, {"a": 20, "b": 20})
    for number in range(10):
        image = encoded(pixels(number + 500, (50 + number, 70, 3)), "JPEG")
        (source / "a" / f"photo{number}.jpg").write_bytes(image)
    chosen = params("folder", source, size_px=32)
    load(workspace, chosen)
    preprocess(workspace, chosen)
    before = contents(workspace.preprocessed)
    preprocess(workspace, chosen)
    assert contents(workspace.preprocessed) == before


def test_before_load(workspace):
    with pytest.raises(MissingOutputError, match=r"dataset\.json is not there yet"):
        preprocess(workspace, params("mnist-5k"))


def test_a_damaged_shard_leaves_the_earlier_output(workspace, tmp_path):
    source = tmp_path / "source"
    write_folder(source, {"a": 4, "b": 4})
    chosen = params("folder", source)
    load(workspace, chosen)
    preprocess(workspace, chosen)
    before = contents(workspace.preprocessed)
    shard = workspace.loaded / "images-00000.bin"
    shard.write_bytes(bytes(shard.stat().st_size))
    # As if it had been written so: damage after that is noticed earlier.
    seal(workspace.loaded)
    with pytest.raises(GraftlineError) as caught:
        preprocess(workspace, chosen)
    assert isinstance(caught.value, DataError)
    assert caught.value.exit_code == 2
    assert "though it was whole when it was loaded" in caught.value.what
    assert caught.value.where == str(shard)
    assert contents(workspace.preprocessed) == before


def test_no_warning_is_printed(workspace, tmp_path, capfd, caplog):
    source = tmp_path / "source"
    write_folder(source, {"a": 4, "b": 4})
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12"
    (source / "a" / "odd.jpg").write_bytes(encoded(pixels(70, (6, 8, 3)), "JPEG", exif=exif))
    chosen = params("folder", source)
    with caplog.at_level(logging.ERROR):
        load(workspace, chosen)
        preprocess(workspace, chosen)
    assert capfd.readouterr().err == ""


def test_each_direction_shrinks_for_itself():
    assert shrink(pixels(1, (200, 50, 3)), 64).shape == (64, 50, 3)
    assert shrink(pixels(1, (50, 200, 1)), 64).shape == (50, 64, 1)
    assert shrink(pixels(1, (200, 100, 3)), 64).shape == (64, 64, 3)


def test_nothing_is_enlarged():
    image = pixels(1, (20, 64, 3))
    assert shrink(image, 64) is image


def test_shrinking_is_antialiased():
    # Stripes of one pixel: every second column taken would be all black or all white.
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 255
    small = shrink(stripes, 32)
    assert 100 < small.min() and small.max() < 155


def test_shrinking_is_pils_bilinear():
    image = pixels(3, (90, 120, 3))
    expected = Image.fromarray(image).resize((40, 40), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(shrink(image, 40), np.asarray(expected))


@given(st.integers(1, 80), st.integers(1, 80), st.sampled_from([1, 3]), st.integers(1, 50))
def test_any_shape_shrinks(height, width, channels, size_px):
    flat = np.full((height, width, channels), 77, np.uint8)
    small = shrink(flat, size_px)
    assert small.shape == (min(height, size_px), min(width, size_px), channels)
    assert small.dtype == np.uint8
    assert (small == 77).all()
