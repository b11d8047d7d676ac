from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graftline.core.errors import DataError
from graftline.data.sources import idx
from tests.unit.data.loading import idx_images, idx_labels, pixels, write_idx

MAX_PX = 1_000_000


def refused(folder, max_px=MAX_PX):
    with pytest.raises(DataError) as caught:
        list(idx.catalog(folder, max_px).samples())
    return str(caught.value)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("mark", ["-", "."])
def test_both_splits_are_read(tmp_path, zipped, mark):
    write_idx(tmp_path, "train", 5, zipped=zipped, mark=mark)
    write_idx(tmp_path, "t10k", 3, 100, zipped=zipped, mark=mark)
    catalog = idx.catalog(tmp_path, MAX_PX)
    samples = list(catalog.samples())
    assert catalog.total == len(samples) == 8
    assert catalog.labels == {"0", "1"}
    assert catalog.given_splits == {"train", "test"}
    assert [sample.split for sample in samples] == ["train"] * 5 + ["test"] * 3
    assert [sample.label for sample in samples] == ["0", "1", "0", "1", "0", "0", "1", "0"]
    assert samples[6].name == f"t10k-images{mark}idx3-ubyte[1]"
    assert bytes(samples[6].payload) == pixels(101).tobytes()
    assert (samples[0].height, samples[0].width, samples[0].channels) == (6, 8, 1)


def test_without_test_files_nothing_is_given(tmp_path):
    write_idx(tmp_path, "train", 5)
    assert idx.catalog(tmp_path, MAX_PX).given_splits == frozenset()


def test_the_plain_file_comes_before_the_zipped(tmp_path):
    write_idx(tmp_path, "train", 2, 50, zipped=True)
    write_idx(tmp_path, "train", 4)
    assert idx.catalog(tmp_path, MAX_PX).total == 4


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "val", "test"),
        ("training", "validation", "testing"),
        ("emnist-balanced-train", "emnist-balanced-dev", "emnist-balanced-test"),
    ],
)
def test_sets_are_called_as_splits_are(tmp_path, train, validation, test):
    for number, name in enumerate((train, validation, test)):
        write_idx(tmp_path, name, 2, 10 * number)
    (tmp_path / f"._{test}-images-idx3-ubyte").write_bytes(b"x")
    samples = list(idx.catalog(tmp_path, MAX_PX).samples())
    assert [sample.split for sample in samples] == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    assert [path.name for path in idx.files(tmp_path)] == [
        f"{name}-{kind}-ubyte"
        for name in (train, validation, test)
        for kind in ("images-idx3", "labels-idx1")
    ]


def test_two_sets_for_one_split_are_in_doubt(tmp_path):
    for name in ("train", "t10k", "test"):
        write_idx(tmp_path, name, 2)
    assert "there are several sets for one split: t10k, test" in refused(tmp_path)


def test_many_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "_PIECE_BYTES", 100)
    write_idx(tmp_path, "train", 5, zipped=True)
    found = [bytes(sample.payload) for sample in idx.catalog(tmp_path, MAX_PX).samples()]
    assert found == [pixels(number).tobytes() for number in range(5)]


def test_a_folder_without_such_files(tmp_path):
    text = refused(tmp_path)
    assert "there is no file of train-images here" in text
    assert "train-images-idx3-ubyte.gz" in text


def test_labels_without_images(tmp_path):
    write_idx(tmp_path, "train", 4)
    write_idx(tmp_path, "t10k", 4, 9)
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    assert "there is no file of t10k-images here" in refused(tmp_path)


def test_a_wrong_magic_number(tmp_path):
    write_idx(tmp_path, "train", 4)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_labels(np.zeros(900, np.uint8)))
    text = refused(tmp_path)
    assert "train-images-idx3-ubyte is not the IDX file that it should be" in text
    assert "its magic number is 0x00000801, not 0x00000803" in text


def test_a_gzipped_file_without_its_ending_has_a_wrong_magic_number(tmp_path):
    write_idx(tmp_path, "train", 4)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(
        gzip.compress((tmp_path / "train-images-idx3-ubyte").read_bytes())
    )
    assert "its magic number is 0x1f8b" in refused(tmp_path)


@pytest.mark.parametrize("zipped", [False, True])
def test_too_short_images(tmp_path, zipped):
    write_idx(tmp_path, "train", 4, zipped=zipped)
    data = idx_images(np.zeros((4, 6, 8), np.uint8))[:-1]
    name = "train-images-idx3-ubyte" + (".gz" if zipped else "")
    (tmp_path / name).write_bytes(gzip.compress(data) if zipped else data)
    assert "too short: its header tells of 192 bytes of data, and 191 are there" in refused(
        tmp_path
    )


def test_too_short_labels(tmp_path):
    write_idx(tmp_path, "train", 4)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_labels(np.zeros(4, np.uint8))[:-1])
    assert "too short: its header tells of 4 bytes of data, and 3 are there" in refused(tmp_path)


def test_no_whole_header(tmp_path):
    write_idx(tmp_path, "train", 4)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(struct.pack(">2I", 0x803, 4))
    assert "too short: 8 bytes, no whole header" in refused(tmp_path)


def test_an_empty_file(tmp_path):
    write_idx(tmp_path, "train", 4)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"")
    assert "too short: 0 bytes" in refused(tmp_path)


def test_too_long(tmp_path):
    write_idx(tmp_path, "train", 4)
    with (tmp_path / "train-images-idx3-ubyte").open("ab") as file:
        file.write(b"\0")
    assert "it is too long" in refused(tmp_path)


def test_a_truncated_gzip_file(tmp_path):
    write_idx(tmp_path, "train", 4, zipped=True)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-12])
    assert "it cannot be read" in refused(tmp_path)


def test_numbers_of_images_and_labels_differ(tmp_path):
    write_idx(tmp_path, "train", 4)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_labels(np.zeros(3, np.uint8)))
    assert "there are 4 images but 3 labels" in refused(tmp_path)


def test_no_images(tmp_path):
    write_idx(tmp_path, "train", 4)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 0, 28, 28))
    assert "its header tells of 0 images of 28 x 28 pixels" in refused(tmp_path)


def test_more_pixels_than_allowed(tmp_path):
    write_idx(tmp_path, "train", 4)
    assert "more than data.max_image_px 47" in refused(tmp_path, max_px=47)


def test_a_header_of_four_billion_labels_takes_no_memory(tmp_path):
    write_idx(tmp_path, "train", 4)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 2**32 - 1))
    assert "more than 100000000" in refused(tmp_path)


headers = st.builds(
    lambda magic, dimensions: (
        struct.pack(">I", magic) + struct.pack(f">{len(dimensions)}I", *dimensions)
    ),
    st.sampled_from([0x803, 0x801, 0x802, 0]),
    st.lists(st.sampled_from([0, 1, 2, 3, 2**16, 2**32 - 1]), min_size=1, max_size=4),
)
files = st.builds(
    lambda header, data, zipped: gzip.compress(header + data) if zipped else header + data,
    st.one_of(st.just(b""), headers),
    st.binary(max_size=40),
    st.booleans(),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(images=files, labels=files, ending=st.sampled_from(["", ".gz"]))
def test_arbitrary_bytes_are_read_or_refused(tmp_path, images, labels, ending):
    for other in tmp_path.iterdir():
        other.unlink()
    (tmp_path / f"train-images-idx3-ubyte{ending}").write_bytes(images)
    (tmp_path / f"train-labels-idx1-ubyte{ending}").write_bytes(labels)
    try:
        catalog = idx.catalog(tmp_path, MAX_PX)
        assert len(list(catalog.samples())) == catalog.total
    except DataError as error:
        assert error.where
