from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftline.core.errors import DataError, StorageFullError
from graftline.data.sources import limits, npz
from tests.unit.data.loading import pixels

MAX_PX = 1_000_000


def images(count, first=0, shape=(6, 8)):
    return np.stack([pixels(first + number, shape) for number in range(count)])


def read(tmp_path, max_px=MAX_PX, **arrays):
    file = tmp_path / "set.npz"
    np.savez_compressed(file, **arrays)
    return npz.catalog(file, scratch(tmp_path), max_px)


def scratch(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir(exist_ok=True)
    return folder


def refused(tmp_path, **arrays):
    with pytest.raises(DataError) as caught:
        list(read(tmp_path, **arrays).samples())
    return str(caught.value)


def refused_file(tmp_path, data):
    file = tmp_path / "set.npz"
    file.write_bytes(data)
    with pytest.raises(DataError) as caught:
        npz.catalog(file, scratch(tmp_path), MAX_PX)
    return str(caught.value)


def test_given_splits(tmp_path):
    catalog = read(
        tmp_path,
        x_train=images(4),
        y_train=np.array([0, 1, 0, 1]),
        x_val=images(2, 10),
        y_val=np.array([0, 1]),
        x_test=images(2, 20),
        y_test=np.array([1, 10]),
    )
    samples = list(catalog.samples())
    assert catalog.total == 8
    assert catalog.given_splits == {"train", "validation", "test"}
    assert catalog.labels == {"0", "1", "10"}
    assert [sample.name for sample in samples[3:6]] == ["x_train[3]", "x_val[0]", "x_val[1]"]
    assert bytes(samples[5].payload) == pixels(11).tobytes()
    assert samples[7].label == "10"


def test_training_alone_is_no_given_split(tmp_path):
    catalog = read(tmp_path, x_train=images(4), y_train=np.arange(4))
    assert catalog.given_splits == frozenset()


def test_images_and_labels_as_text(tmp_path):
    catalog = read(tmp_path, images=images(2), labels=np.array(["cat", "dög"]))
    assert [sample.label for sample in catalog.samples()] == ["cat", "dög"]
    assert catalog.given_splits == frozenset()


def test_labels_as_bytes_and_as_a_column(tmp_path):
    catalog = read(tmp_path, images=images(2), labels=np.array([[b"cat"], [b"dog"]]))
    assert [sample.label for sample in catalog.samples()] == ["cat", "dog"]


@pytest.mark.parametrize("shape", [(6, 8, 1), (6, 8, 3)])
def test_images_with_channels(tmp_path, shape):
    catalog = read(tmp_path, images=images(2, shape=shape), labels=np.arange(2))
    sample = list(catalog.samples())[1]
    assert (sample.height, sample.width, sample.channels) == shape
    assert bytes(sample.payload) == pixels(1, shape).tobytes()


def test_columns_first(tmp_path):
    catalog = read(tmp_path, images=np.asfortranarray(images(3)), labels=np.arange(3))
    assert bytes(list(catalog.samples())[2].payload) == pixels(2).tobytes()


def test_many_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "_PIECE_BYTES", 100)
    catalog = read(tmp_path, images=images(5), labels=np.arange(5))
    found = [bytes(sample.payload) for sample in catalog.samples()]
    assert found == [pixels(number).tobytes() for number in range(5)]


def test_object_arrays_are_refused(tmp_path):
    text = refused(tmp_path, images=images(2), labels=np.array(["a", None], object))
    assert "array labels in set.npz holds Python objects" in text
    assert "unpickled" in text


def test_nothing_is_unpickled(tmp_path):
    # A member that is a bare pickle, which numpy.load would run if it were allowed to.
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("images.npy", b"cos\nsystem\n(S'exit 3'\ntR.")
        archive.writestr("labels.npy", b"cos\nsystem\n(S'exit 3'\ntR.")
    assert "cannot be read as an npz archive" in refused_file(tmp_path, file.getvalue())


def test_members_that_lead_out_are_never_written(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("../../images.npy", "../labels.npy"):
            archive.writestr(name, b"x")
    assert "lacks" in refused_file(tmp_path, file.getvalue())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scratch", "set.npz"]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x_train": images(2)}, "lacks y_train"),
        ({"x_test": images(2), "y_test": np.arange(2)}, "lacks x_train, y_train"),
        ({"data": images(2)}, "its arrays are: data"),
        ({"images": images(2)}, "lacks labels"),
        (
            {
                "images": images(2),
                "labels": np.arange(2),
                "x_train": images(2),
                "y_train": np.arange(2),
            },
            "has two sets of arrays",
        ),
        ({"images": images(2) / 255, "labels": np.arange(2)}, "images in set.npz is not uint8"),
        ({"images": images(2)[0], "labels": np.arange(2)}, "has not the shape of images"),
        (
            {"images": images(2, shape=(6, 8, 4)), "labels": np.arange(2)},
            "has not the shape of images: uint8, shape (2, 6, 8, 4)",
        ),
        ({"images": images(2)[:0], "labels": np.arange(0)}, "is empty"),
        ({"images": images(2), "labels": np.arange(3)}, "has 3 labels for 2 images"),
        ({"images": images(2), "labels": np.eye(2, dtype=int)}, "not one label per image"),
        ({"images": images(2), "labels": np.array([0.5, 1])}, "neither integers nor text"),
        ({"images": images(2), "labels": np.array([True, False])}, "neither integers nor text"),
        ({"images": images(2), "labels": np.array(["a", " "])}, "holds an empty label"),
    ],
)
def test_wrong_arrays(tmp_path, arrays, words):
    text = refused(tmp_path, **arrays)
    assert words in text
    assert "x_train and y_train" in text


def test_more_pixels_than_allowed(tmp_path):
    with pytest.raises(DataError, match="more than 47 pixels"):
        read(tmp_path, max_px=47, images=images(2), labels=np.arange(2))


def test_no_archive(tmp_path):
    assert "cannot be read as an npz archive" in refused_file(tmp_path, b"no zip")


def test_a_damaged_archive(tmp_path):
    file = io.BytesIO()
    np.savez_compressed(file, images=images(40), labels=np.arange(40))
    data = bytearray(file.getvalue())
    data[400:430] = bytes(30)
    assert "cannot be read as an npz archive" in refused_file(tmp_path, bytes(data))


def test_bombs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "_SUSPECT_BYTES", 100_000)
    text = refused(tmp_path, images=np.zeros((200, 40, 40), np.uint8), labels=np.arange(200))
    assert "as decompression bombs do" in text


def test_more_than_the_disk_has_room_for(tmp_path, monkeypatch):
    usage = limits.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(limits.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(StorageFullError, match="and 10 are free"):
        read(tmp_path, images=images(2), labels=np.arange(2))


def archive_bytes():
    file = io.BytesIO()
    np.savez(file, images=images(2), labels=np.arange(2))
    return file.getvalue()


SOUND = archive_bytes()


@given(
    st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), max_size=5),
    st.integers(0, len(SOUND)),
)
def test_altered_archives_are_read_or_refused(tmp_path_factory, changes, length):
    folder = tmp_path_factory.mktemp("npz")
    data = bytearray(SOUND)
    for place, value in changes:
        data[place] = value
    file = folder / "set.npz"
    file.write_bytes(bytes(data[:length]))
    try:
        list(npz.catalog(file, folder, MAX_PX).samples())
    except DataError as error:
        assert error.where


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        (("X_train", "y_train"), ("X_valid", "y_valid"), ("X_test", "y_test")),
        (
            ("train_images", "train_labels"),
            ("val_images", "val_labels"),
            ("test_images", "test_labels"),
        ),
        (("trainX", "trainY"), ("devX", "devY"), ("evalX", "evalY")),
    ],
)
def test_arrays_are_called_as_splits_are(tmp_path, train, validation, test):
    arrays = {}
    for number, (images_key, labels_key) in enumerate((train, validation, test)):
        arrays |= {images_key: images(2, 10 * number), labels_key: np.array(["cat", "dog"])}
    catalog = read(tmp_path, **arrays, class_names=np.array(["cat", "dog"]))
    assert [(one.name, one.label, one.split) for one in catalog.samples()] == [
        (f"{key}[{place}]", label, split)
        for (key, _), split in ((train, "train"), (validation, "validation"), (test, "test"))
        for place, label in enumerate(("cat", "dog"))
    ]


def test_two_arrays_for_one_split_are_in_doubt(tmp_path):
    text = refused(
        tmp_path,
        x_train=images(2),
        y_train=np.arange(2),
        x_test=images(2, 10),
        y_test=np.arange(2),
        x_eval=images(2, 20),
        y_eval=np.arange(2),
    )
    assert "has two arrays of images for one split, x_test and x_eval" in text


def test_what_lacks_is_called_as_its_companion_is(tmp_path):
    text = refused(tmp_path, X_train=images(2), y_train=np.arange(2), X_valid=images(2))
    assert "lacks y_valid" in text
