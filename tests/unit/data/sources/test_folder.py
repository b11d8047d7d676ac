from __future__ import annotations

import os
import sys

import pytest

from graftline.core.errors import DataError
from graftline.data.sources import folder
from graftline.data.sources.catalog import Broken, SourceSample
from graftline.data.sources.split_names import WORDS, SplitName, split_named
from tests.unit.data.loading import encoded, pixels, write_folder

MAX_PX = 1_000_000
LITTER = (
    "@eaDir",
    "@EADIR",
    "#recycle",
    "#snapshot",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "__MACOSX",
    ".DS_Store",
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "Desktop.ini",
    "@Recycle",
    "@Recently-Snapshot",
    ".@__thumb",
    ".ipynb_checkpoints",
    "Icon\r",
    "._cat.png",
    ".picasa.ini",
    "Photos.lrdata",
    "found.000",
    "~snapshot",
)


def read(root):
    return folder.catalog(root.resolve(), MAX_PX)


def refused(root):
    with pytest.raises(DataError) as caught:
        read(root)
    return str(caught.value)


def test_a_folder_per_class(tmp_path):
    write_folder(tmp_path, {"cat": 2, "dog": 1})
    catalog = read(tmp_path)
    samples = list(catalog.samples())
    assert catalog.total == 3
    assert catalog.labels == {"cat", "dog"}
    assert catalog.given_splits == frozenset()
    assert [(one.name, one.label, one.split) for one in samples] == [
        ("cat/0.png", "cat", None),
        ("cat/1.png", "cat", None),
        ("dog/0.png", "dog", None),
    ]
    assert samples[1].payload == encoded(pixels(1))


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_splits_on_top(tmp_path, validation):
    for number, name in enumerate(("train", validation, "test")):
        write_folder(tmp_path / name, {"cat": 1, "dog": 1}, number * 10)
    (tmp_path / "README.txt").write_text("about")
    catalog = read(tmp_path)
    assert catalog.given_splits == {"train", "validation", "test"}
    assert {(one.name, one.split) for one in catalog.samples()} >= {
        (f"{validation}/cat/0.png", "validation"),
        ("test/dog/0.png", "test"),
    }


def test_a_class_may_be_called_like_a_split(tmp_path):
    write_folder(tmp_path, {"train": 1, "bus": 1})
    assert read(tmp_path).labels == {"train", "bus"}


def test_images_at_any_depth(tmp_path):
    write_folder(tmp_path / "cat", {"2023": 1, "2024": 2})
    write_folder(tmp_path, {"dog": 1}, 10)
    catalog = read(tmp_path)
    assert catalog.labels == {"cat", "dog"}
    assert [one.name for one in catalog.samples()][1] == "cat/2024/0.png"


def test_hidden_files_and_litter_are_left_out(tmp_path):
    write_folder(tmp_path, {"cat": 1, "dog": 1, ".cache": 1})
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "cat" / ".hidden").mkdir()
    (tmp_path / "cat" / ".hidden" / "1.png").write_bytes(b"x")
    assert read(tmp_path).total == 2


def test_any_other_file_counts_as_an_image(tmp_path):
    write_folder(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "cat" / "notes.txt").write_text("hello")
    broken = [one for one in read(tmp_path).samples() if isinstance(one, Broken)]
    assert [one.name for one in broken] == ["cat/notes.txt"]
    assert "no image of a known kind" in broken[0].reason


def test_the_content_decides_and_not_the_name(tmp_path):
    write_folder(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "cat" / "0.png").rename(tmp_path / "cat" / "0.jpeg")
    assert all(isinstance(one, SourceSample) for one in read(tmp_path).samples())


def test_an_empty_class_is_named(tmp_path):
    write_folder(tmp_path / "train", {"cat": 1, "dog": 1, "eel": 0})
    write_folder(tmp_path / "test", {"cat": 1, "dog": 0}, 10)
    text = refused(tmp_path)
    assert "2 class folders hold no image: test/dog, train/eel" in text


def test_no_folders(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(pixels(1)))
    assert "there is no class folder here" in refused(tmp_path)


def test_a_split_without_class_folders(tmp_path):
    write_folder(tmp_path / "train", {"cat": 1, "dog": 1})
    (tmp_path / "test").mkdir()
    text = refused(tmp_path)
    assert "there is no class folder here" in text
    assert str(tmp_path / "test") in text


@pytest.mark.parametrize(
    "names", [("train", "test", "more"), ("test", "val"), ("test",), ("train", "val", "validation")]
)
def test_an_unclear_layout(tmp_path, names):
    for name in names:
        write_folder(tmp_path / name, {"cat": 1, "dog": 1})
    text = refused(tmp_path)
    assert "the folders do not tell which splits there are" in text
    assert all(name in text for name in names)


def test_a_link_to_a_file_outside_is_refused(tmp_path):
    write_folder(tmp_path / "set", {"cat": 1, "dog": 1})
    (tmp_path / "secret.png").write_bytes(encoded(pixels(1)))
    (tmp_path / "set" / "cat" / "link.png").symlink_to(tmp_path / "secret.png")
    text = refused(tmp_path / "set")
    assert "link.png leads out of the source" in text
    assert "secret.png" in text


@pytest.mark.parametrize("name", ["eel", "cat/more"])
def test_a_link_to_a_folder_outside_is_refused(tmp_path, name):
    write_folder(tmp_path / "set", {"cat": 1, "dog": 1})
    write_folder(tmp_path, {"elsewhere": 1}, 10)
    (tmp_path / "set" / name).symlink_to(tmp_path / "elsewhere")
    assert "leads out of the source" in refused(tmp_path / "set")


def test_a_link_to_a_split_outside_is_refused(tmp_path):
    write_folder(tmp_path / "set" / "train", {"cat": 1, "dog": 1})
    write_folder(tmp_path / "elsewhere", {"cat": 1, "dog": 1})
    (tmp_path / "set" / "test").symlink_to(tmp_path / "elsewhere")
    assert "leads out of the source" in refused(tmp_path / "set")


def test_a_link_inside_is_followed(tmp_path):
    write_folder(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "cat" / "link.png").symlink_to(tmp_path / "dog" / "0.png")
    assert [one.name for one in read(tmp_path).samples()][1] == "cat/link.png"


def test_a_link_to_the_folder_above_is_refused(tmp_path):
    write_folder(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat")
    assert "is a link to a folder above itself" in refused(tmp_path)


def test_a_link_to_nowhere_is_a_broken_image(tmp_path):
    write_folder(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "cat" / "link.png").symlink_to(tmp_path / "cat" / "absent.png")
    broken = [one for one in read(tmp_path).samples() if isinstance(one, Broken)]
    assert broken == [Broken("cat/link.png", "cat", "cannot be read: No such file or directory")]


def test_a_pipe_does_not_hang(tmp_path):
    write_folder(tmp_path, {"cat": 1, "dog": 1})
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    broken = [one for one in read(tmp_path).samples() if isinstance(one, Broken)]
    assert [one.reason for one in broken] == ["is no regular file"]


def test_a_file_larger_than_any_image_is_not_read(tmp_path):
    write_folder(tmp_path, {"cat": 1, "dog": 1})
    with (tmp_path / "cat" / "0.png").open("wb") as file:
        file.truncate(1 << 40)
    broken = [one for one in read(tmp_path).samples() if isinstance(one, Broken)]
    assert "has 1099511627776 bytes, more than any image of 1000000 pixels" in broken[0].reason


def test_names_are_composed(tmp_path):
    write_folder(tmp_path, {"cafe\u0301": 1, "tea": 1})
    assert read(tmp_path).labels == {"caf\u00e9", "tea"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_no_text_are_escaped(tmp_path):
    write_folder(tmp_path, {"cat": 1, "dog": 1})
    odd = os.fsdecode(os.fsencode(tmp_path / "cat") + b"/\xff.png")
    (tmp_path / "cat" / "0.png").rename(odd)
    assert [one.name for one in read(tmp_path).samples()][0] == "cat/\\udcff.png"


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("Training", "Validation", "Testing"),
        ("TRAIN", "VALID", "TEST"),
        ("trains", "vals", "tests"),
        ("train_set", "dev-set", "test set"),
        ("trn", "dev", "eval"),
        ("train2017", "val2017", "test2017"),
        ("seg_train", "seg_dev", "seg_test"),
        ("TrainImages", "ValidImages", "TestImages"),
        ("training data", "development data", "evaluation data"),
    ],
)
def test_splits_by_any_usual_name(tmp_path, train, validation, test):
    for number, name in enumerate((train, validation, test)):
        write_folder(tmp_path / name, {"cat": 1, "dog": 1}, number * 10)
    (tmp_path / "@eaDir" / "cat").mkdir(parents=True)
    catalog = read(tmp_path)
    assert catalog.labels == {"cat", "dog"}
    assert {(one.name, one.split) for one in catalog.files} == {
        (f"{name}/{label}/0.png", split)
        for name, split in ((train, "train"), (validation, "validation"), (test, "test"))
        for label in ("cat", "dog")
    }


@pytest.mark.parametrize(
    "classes",
    [
        ("train", "bus", "car"),
        ("Training", "work"),
        ("valid", "invalid"),
        ("test1", "test2", "test3"),
        ("train_station", "bus_station"),
        ("train_station", "test_tube"),
        ("trainer", "shoe"),
    ],
)
def test_classes_that_are_only_called_like_splits(tmp_path, classes):
    write_folder(tmp_path, dict.fromkeys(classes, 2))
    catalog = read(tmp_path)
    assert catalog.labels == set(classes)
    assert catalog.given_splits == frozenset()


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"train": {"a": 1, "b": 1}, "val": {"a": 1}, "valid": {"b": 1}}, "val and valid are both"),
        ({"train": {"a": 1}, "eval": {"a": 1}, "test": {"a": 1}}, "eval and test are both test"),
        ({"train": {"steam": 1}, "test": {"tube": 1}}, "test tube; train steam"),
        ({"seg_train": {"a": 1}, "seg_test": {"a": 1}, "seg_pred": {}}, "seg_pred is among them"),
        ({"train": {"a": 1, "b": 1}, "unlabelled": {"x": 1}}, "unlabelled is among them"),
        ({"Valid": {"a": 1}, "Test": {"a": 1}}, "there is none for training"),
    ],
)
def test_a_doubt_is_an_error_with_both_readings(tmp_path, layout, words):
    for number, (name, classes) in enumerate(layout.items()):
        write_folder(tmp_path / name, classes, 10 * number)
        (tmp_path / name).mkdir(exist_ok=True)
    text = refused(tmp_path)
    assert words in text
    assert "If they are splits" in text and "If they are classes" in text
    assert "data.source to manifest" in text


def test_splits_without_classes_are_in_doubt(tmp_path):
    write_folder(tmp_path, {"train": 2, "test": 2})
    assert "no folder tells of the images' classes" in refused(tmp_path)


def test_splits_below_the_classes_are_in_doubt(tmp_path):
    for number, label in enumerate(("cat", "dog")):
        write_folder(tmp_path / label, {"train": 2, "test": 1}, 10 * number)
    text = refused(tmp_path)
    assert "class 'cat' holds the folders test, train" in text
    assert "train/cat, train/dog, test/cat, test/dog" in text


@pytest.mark.parametrize("name", LITTER)
def test_what_servers_and_desktops_leave_is_no_class_and_no_image(tmp_path, name):
    write_folder(tmp_path, {"cat": 1, "dog": 1})
    write_folder(tmp_path / name, {"thumbs": 1}, 10)
    write_folder(tmp_path / "cat" / "deep", {name: 1}, 20)
    (tmp_path / "dog" / name).write_bytes(encoded(pixels(30)))
    assert [one.name for one in read(tmp_path).files] == ["cat/0.png", "dog/0.png"]


def test_the_documented_names_are_those_that_are_taken(checkout):
    page = (checkout / "docs" / "data.md").read_text(encoding="utf-8")
    for split, words in WORDS.items():
        assert f"| {split} | {', '.join(words)} |\n" in page
        assert {split_named(word) for word in words} == {SplitName(split)}
