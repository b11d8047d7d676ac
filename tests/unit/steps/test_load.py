from __future__ import annotations

import csv
import dataclasses
import errno
import json
import logging
import shutil

import numpy as np
import pytest

from graftline.core.errors import StorageFullError
from graftline.core.records import SPLITS, Dataset
from graftline.core.workspace import Workspace
from graftline.data import sources
from graftline.data.decoding import content_hash
from graftline.data.shards import PackedImages, ShardWriter
from graftline.steps.load import load
from tests.unit.data.loading import (
    contents,
    encoded,
    idx_labels,
    params,
    pixels,
    refused,
    write_folder,
    write_idx,
)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "checkout")


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source"


def test_what_is_written(workspace, source):
    write_folder(source, {"b10": 10, "b2": 20})
    dataset = load(workspace, params("folder", source))
    assert dataset == Dataset.read(workspace.loaded / "dataset.json")
    assert dataset.classes == ("b2", "b10")
    assert dataset.counts == {
        "train": {"b2": 15, "b10": 7},
        "validation": {"b2": 1, "b10": 1},
        "test": {"b2": 4, "b10": 2},
    }
    assert (dataset.source, dataset.given_splits, dataset.channels) == ("folder", (), (1,))
    assert (dataset.min_height_px, dataset.max_width_px) == (6, 8)
    assert (dataset.corrupt, dataset.duplicates, dataset.leaks, dataset.conflicts) == (0, 0, 0, 0)
    assert json.loads((workspace.loaded / "classes.json").read_text()) == ["b2", "b10"]
    assert (workspace.loaded / "skipped.csv").read_text() == "file,reason\n"
    assert "30 images of 2 classes" in (workspace.loaded / "report.txt").read_text()
    assert not (workspace.var / "load-errors.csv").exists()


def test_what_is_packed(workspace, source):
    write_folder(source, {"a": 5, "b": 5})
    load(workspace, params("folder", source))
    packed = PackedImages.open(workspace.loaded)
    assert len(packed) == 10
    order = list(zip([SPLITS.index(split) for split in packed.splits], packed.hashes, strict=True))
    assert order == sorted(order)
    of_name = {f"{'ab'[number // 5]}/{number % 5}.png": pixels(number) for number in range(10)}
    for index, name in enumerate(packed.names):
        image = packed.image(index)
        np.testing.assert_array_equal(image[..., 0], of_name[name])
        assert packed.hashes[index] == content_hash(image)
        assert packed.labels[index] == "ab".index(name[0])


def test_the_encoded_bytes_are_kept(workspace, source):
    write_folder(source, {"a": 3, "b": 3})
    photograph = encoded(pixels(99, (40, 40, 3)), "JPEG")
    (source / "a" / "photo.jpg").write_bytes(photograph)
    load(workspace, params("folder", source))
    assert photograph in (workspace.loaded / "images-00000.bin").read_bytes()


def test_the_same_source_gives_the_same_files(workspace, source):
    write_folder(source, {"a": 9, "b": 9})
    load(workspace, params("folder", source))
    before = contents(workspace.loaded)
    load(workspace, params("folder", source))
    assert contents(workspace.loaded) == before


def test_names_and_order_of_files_do_not_matter(workspace, source, tmp_path):
    write_folder(source, {"a": 20, "b": 20})
    renamed = tmp_path / "renamed"
    for label in "ab":
        (renamed / label).mkdir(parents=True)
        for number in range(20):
            shutil.copy(source / label / f"{number}.png", renamed / label / f"{99 - number}.png")
    one = load(workspace, params("folder", source))
    splits_of_one = PackedImages.open(workspace.loaded).splits
    hashes_of_one = PackedImages.open(workspace.loaded).hashes
    other = load(workspace, params("folder", renamed))
    assert one.digest == other.digest
    packed = PackedImages.open(workspace.loaded)
    assert packed.splits.tolist() == splits_of_one.tolist()
    assert packed.hashes.tolist() == hashes_of_one.tolist()


def test_the_kind_of_source_does_not_matter(workspace, source, tmp_path):
    write_idx(source, "train", 40)
    as_files = tmp_path / "files"
    for number in range(40):
        (as_files / str(number % 2)).mkdir(parents=True, exist_ok=True)
        (as_files / str(number % 2) / f"{number}.png").write_bytes(encoded(pixels(number)))
    archive = tmp_path / "set.npz"
    np.savez(
        archive, images=np.stack([pixels(number) for number in range(40)]), labels=np.arange(40) % 2
    )
    digests = {
        load(workspace, params(kind, path)).digest
        for kind, path in (("idx", source), ("folder", as_files), ("npz", archive))
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda source: (source / "a" / "0.png").write_bytes(encoded(pixels(777))),
        lambda source: (source / "a" / "0.png").unlink(),
        lambda source: (source / "a" / "0.png").rename(source / "b" / "new.png"),
        lambda source: (source / "a" / "new.png").write_bytes(encoded(pixels(777))),
    ],
)
def test_the_digest_tells_of_any_change(workspace, source, change):
    write_folder(source, {"a": 9, "b": 9})
    before = load(workspace, params("folder", source)).digest
    change(source)
    assert load(workspace, params("folder", source)).digest != before


def test_another_seed_changes_the_digest(workspace, source):
    write_folder(source, {"a": 9, "b": 9})
    digests = {load(workspace, params("folder", source, seed=seed)).digest for seed in (0, 1)}
    assert len(digests) == 2


def test_a_relative_path_starts_at_the_checkout(workspace):
    write_folder(workspace.root / "pictures", {"a": 3, "b": 3})
    assert load(workspace, params("folder", "pictures")).total() == 6


def test_grey_and_colour_and_sizes(workspace, source):
    write_folder(source, {"a": 4, "b": 4})
    (source / "a" / "c.png").write_bytes(encoded(pixels(50, (3, 30, 3))))
    dataset = load(workspace, params("folder", source))
    assert dataset.channels == (1, 3)
    assert (dataset.min_height_px, dataset.max_height_px) == (3, 6)
    assert (dataset.min_width_px, dataset.max_width_px) == (8, 30)


def test_the_bundled_digits(workspace):
    dataset = load(workspace, params("mnist-5k"))
    assert {split: dataset.total(split) for split in SPLITS} == {
        "train": 3600,
        "validation": 400,
        "test": 1000,
    }
    assert set(dataset.counts["test"].values()) == {100}
    assert PackedImages.open(workspace.loaded).uniform_shape == (28, 28, 1)


def broken_folder(source):
    write_folder(source, {"a": 5, "b": 5})
    whole = encoded(pixels(50, (64, 64)), "JPEG")
    (source / "a" / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (source / "a" / "text.png").write_text("no image")
    (source / "b" / "zero.png").write_bytes(b"")
    (source / "b" / "large.png").write_bytes(encoded(np.zeros((60, 90), np.uint8)))


def test_all_broken_images_are_told_before_it_stops(workspace, source):
    broken_folder(source)
    text = str(refused(workspace, params("folder", source, max_image_px=5000)))
    assert "4 images cannot be used" in text
    for words in (
        "a/text.png: is no image of a known kind",
        "a/truncated.jpg: cannot be decoded: image file is truncated",
        "b/large.png: has 90 x 60 = 5400 pixels, more than 5000 (data.max_image_px)",
        "b/zero.png: the file is empty (0 bytes)",
        "data.on_corrupt",
    ):
        assert words in text
    table = workspace.var / "load-errors.csv"
    assert str(table) in text
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [
        "a/text.png",
        "a/truncated.jpg",
        "b/large.png",
        "b/zero.png",
    ]


def test_a_long_list_is_cut_in_the_message_and_whole_in_the_table(workspace, source):
    write_folder(source, {"a": 5, "b": 5})
    for number in range(60):
        (source / "a" / f"x{number:02d}.png").write_bytes(b"")
    text = str(refused(workspace, params("folder", source)))
    assert text.count("the file is empty") == 50
    assert "... and 10 more" in text
    assert (workspace.var / "load-errors.csv").read_text().count("the file is empty") == 60


def test_the_list_of_broken_images_goes_once_all_is_well(workspace, source):
    write_folder(source, {"a": 5, "b": 5})
    (source / "a" / "0.png").write_bytes(b"")
    refused(workspace, params("folder", source))
    assert (workspace.var / "load-errors.csv").exists()
    (source / "a" / "0.png").unlink()
    load(workspace, params("folder", source))
    assert not (workspace.var / "load-errors.csv").exists()


def test_a_full_disk(workspace, source, monkeypatch):
    write_folder(source, {"a": 5, "b": 5})
    load(workspace, params("folder", source))
    before = contents(workspace.root / "data")

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ShardWriter, "append", full)
    with pytest.raises(StorageFullError) as caught:
        load(workspace, params("folder", source))
    assert caught.value.exit_code == 2
    assert contents(workspace.root / "data") == before


def test_broken_images_can_be_skipped(workspace, source, caplog):
    broken_folder(source)
    with caplog.at_level(logging.WARNING, "graftline.steps.load"):
        dataset = load(workspace, params("folder", source, on_corrupt="skip"))
    assert dataset.corrupt == 3
    assert dataset.total() == 11
    assert "3 images were skipped" in caplog.text
    with (workspace.loaded / "skipped.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["a/text.png", "a/truncated.jpg", "b/zero.png"]
    report = (workspace.loaded / "report.txt").read_text()
    assert "Skipped, since they cannot be used: 3" in report
    assert "b/zero.png: the file is empty (0 bytes)" in report


def test_a_class_of_broken_images_is_not_lost_in_silence(workspace, source):
    write_folder(source, {"a": 5, "b": 5, "c": 3})
    for file in (source / "c").iterdir():
        file.write_bytes(b"")
    error = refused(workspace, params("folder", source, on_corrupt="skip"))
    assert "class 'c' has no image in train and validation and test" in error.what


def test_nothing_but_broken_images(workspace, source):
    for label in "ab":
        (source / label).mkdir(parents=True)
        (source / label / "x.png").write_bytes(b"")
    error = refused(workspace, params("folder", source, on_corrupt="skip"))
    assert "class 'a' has no image" in error.what


def leaky_folder(source):
    write_folder(source / "train", {"a": 6, "b": 6})
    write_folder(source / "test", {"a": 2, "b": 2}, 100)
    shutil.copy(source / "train" / "a" / "3.png", source / "test" / "a" / "leak.png")


def test_leaks_are_told_by_name(workspace, source, caplog):
    leaky_folder(source)
    with caplog.at_level(logging.WARNING, "graftline.steps.load"):
        dataset = load(workspace, params("folder", source))
    assert (dataset.leaks, dataset.duplicates, dataset.conflicts) == (1, 1, 0)
    assert dataset.given_splits == ("train", "test")
    line = "train/a/3.png (a, train) = test/a/leak.png (a, test)"
    assert line in (workspace.loaded / "report.txt").read_text()
    assert "1 image stands in more than one split" in caplog.text
    assert line in caplog.text


def test_leaks_can_stop_the_load(workspace, source):
    leaky_folder(source)
    error = refused(workspace, params("folder", source, on_leak="fail"))
    assert "1 image stands in more than one split" in error.what
    assert "train/a/3.png (a, train) = test/a/leak.png (a, test)" in error.what
    assert "data.on_leak" in str(error)


def test_the_same_image_under_two_labels_is_told_by_name(workspace, source, caplog):
    write_folder(source, {"a": 6, "b": 6})
    shutil.copy(source / "a" / "2.png", source / "b" / "same.png")
    with caplog.at_level(logging.WARNING, "graftline.steps.load"):
        dataset = load(workspace, params("folder", source, on_leak="fail"))
    assert (dataset.conflicts, dataset.leaks) == (1, 0)
    assert "1 image stands under more than one label" in caplog.text
    report = (workspace.loaded / "report.txt").read_text()
    assert "a/2.png (a, " in report
    assert "b/same.png (b, " in report


def test_copies_in_other_formats_are_duplicates(workspace, source):
    write_folder(source, {"a": 6, "b": 6})
    (source / "a" / "copy.bmp").write_bytes(encoded(pixels(0), "BMP"))
    assert load(workspace, params("folder", source)).duplicates == 1
    packed = PackedImages.open(workspace.loaded)
    split_of = dict(zip(packed.names, packed.splits, strict=True))
    assert split_of["a/0.png"] == split_of["a/copy.bmp"]


def test_a_warning_of_the_decoder_is_reported_and_not_printed(workspace, source, capfd):
    write_folder(source, {"a": 4, "b": 4})
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12"
    (source / "a" / "odd.jpg").write_bytes(encoded(pixels(70, (6, 8, 3)), "JPEG", exif=exif))
    load(workspace, params("folder", source))
    assert "a/odd.jpg: " in (workspace.loaded / "report.txt").read_text()
    assert capfd.readouterr().err == ""


def test_one_class(workspace, source):
    write_folder(source, {"a": 9})
    error = refused(workspace, params("folder", source))
    assert "there is a single class, 'a'" in error.what


def test_an_empty_class(workspace, source):
    write_folder(source, {"a": 9, "b": 9, "c": 0})
    assert "holds no image: c" in refused(workspace, params("folder", source)).what


def test_a_class_too_small_to_split(workspace, source):
    write_folder(source, {"a": 9, "b": 2})
    error = refused(workspace, params("folder", source))
    assert "class 'b' has 2 images" in error.what


def test_a_label_in_test_that_training_lacks(workspace, source):
    write_folder(source / "train", {"a": 6, "b": 6})
    write_folder(source / "test", {"a": 2, "b": 2, "c": 2}, 100)
    error = refused(workspace, params("folder", source))
    assert "class 'c'" in error.what
    assert "train" in error.what


def test_a_label_that_test_lacks(workspace, source):
    write_folder(source / "train", {"a": 6, "b": 6, "c": 6})
    write_folder(source / "test", {"a": 2, "b": 2}, 100)
    error = refused(workspace, params("folder", source))
    assert "class 'c' has no image in test (5 in train, 1 in validation, 0 in test)" in error.what


def test_an_idx_file_with_a_wrong_magic_number(workspace, source):
    write_idx(source, "train", 9)
    (source / "train-images-idx3-ubyte").write_bytes(idx_labels(np.zeros(500, np.uint8)))
    assert "magic number is 0x00000801" in refused(workspace, params("idx", source)).what


def test_an_idx_file_too_short(workspace, source):
    write_idx(source, "train", 9)
    file = source / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-5])
    assert "it is too short" in refused(workspace, params("idx", source)).what


def test_an_npz_file_with_an_object_array(workspace, tmp_path):
    file = tmp_path / "set.npz"
    np.savez(file, images=np.array([None, None], object), labels=np.arange(2))
    assert "holds Python objects" in refused(workspace, params("npz", file)).what


def test_a_manifest_that_misses_a_column(workspace, source):
    source.mkdir()
    (source / "manifest.csv").write_text("path\nx.png\n")
    assert "misses column label" in refused(workspace, params("manifest", source)).what


def test_a_manifest_that_names_an_absent_file(workspace, source):
    source.mkdir()
    (source / "manifest.csv").write_text("path,label\nx.png,a\n")
    error = refused(workspace, params("manifest", source, on_corrupt="skip"))
    assert "'x.png' is not there" in error.what


def test_a_manifest_as_the_path(workspace, source):
    source.mkdir()
    (source / "table.csv").write_text("path,label\n")
    error = refused(workspace, params("manifest", source / "table.csv"))
    assert f"set data.path to its folder ({source})" in str(error)
    assert "data.manifest to its name (table.csv)" in str(error)


def test_a_path_that_is_not_there(workspace):
    error = refused(workspace, params("folder", "no/such/place"))
    assert "data.path is 'no/such/place', which cannot be reached" in error.what
    assert "an existing folder" in str(error)


@pytest.mark.parametrize(("kind", "is_folder"), [("folder", False), ("idx", False), ("npz", True)])
def test_a_path_of_the_wrong_kind(workspace, tmp_path, kind, is_folder):
    path = tmp_path / "there"
    if is_folder:
        path.mkdir()
    else:
        path.write_text("x")
    error = refused(workspace, params(kind, path))
    assert ("which is a folder" if is_folder else "which is a file") in error.what


def test_images_are_written_while_the_source_is_read(workspace, source, monkeypatch):
    for label in "ab":
        (source / label).mkdir(parents=True)
        for number in range(6):
            data = encoded(pixels(number + 6 * ord(label), (200, 200)))
            (source / label / f"{number}.png").write_bytes(data)
    read = sources.read
    written_bytes = []

    def watched(data, root, scratch, *given):
        catalog = read(data, root, scratch, *given)

        def samples(*given):
            for sample in catalog.samples(*given):
                written = sum(file.stat().st_size for file in scratch.parent.glob("*.bin"))
                written_bytes.append(written)
                yield sample

        return dataclasses.replace(catalog, samples=samples)

    monkeypatch.setattr(sources, "read", watched)
    load(workspace, params("folder", source))
    assert written_bytes[0] == 0
    assert written_bytes[-1] > 10 * 40_000
