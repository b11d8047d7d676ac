from __future__ import annotations

import numpy as np
import pytest

from graftline.core.errors import DataError
from graftline.core.workspace import Workspace
from graftline.data.sources.similar import difference, folded, groups
from graftline.steps.load import load
from tests.unit.data.loading import encoded, params, pixels, write_folder


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("cat", "Cat", "small and capital letters"),
        ("straße", "STRASSE", "small and capital letters"),
        ("cat", "cat ", "spaces"),
        ("a b", "a  b", "spaces"),
        ("red fox", "red_fox", "spaces"),
        ("a b", "a\xa0b", "the form of letters in Unicode"),
        ("caf\u00e9", "cafe\u0301", "the form of letters in Unicode"),
        ("fish", "\ufb01sh", "the form of letters in Unicode"),
        ("cat", "\uff43at", "the form of letters in Unicode"),
        ("cat", "cat\u200b", "signs that cannot be seen"),
        ("cat", "\ufeffcat", "signs that cannot be seen"),
        ("cat", "ca\u00adt", "signs that cannot be seen"),
        ("cat", "\u202ecat", "signs that cannot be seen"),
        ("cat", r"cat\u200b", "signs that cannot be seen"),
        ("\u2764", "\u2764\ufe0f", "signs that cannot be seen"),
        ("cat", "c\u0430t", "signs that look the same"),
        ("children's", "children\u2019s", "signs that look the same"),
        ("1", "1.0", "how a number is written"),
        ("1", "01", "how a number is written"),
        ("1", "+1", "how a number is written"),
        ("1", "1,0", "how a number is written"),
        ("1000", "1e3", "how a number is written"),
        ("1.5", "1.50", "how a number is written"),
        ("1", "\u0661", "how a number is written"),
        ("img 7", "img 007", "how a number is written"),
        ("class 1", "class 1.0", "how a number is written"),
        ("cat", "Cat ", "spaces and small and capital letters"),
    ],
)
def test_names_that_look_alike(one: str, other: str, kind: str) -> None:
    assert groups([one, "dog", other]) == [sorted([one, other])]
    assert difference([one, other]) == kind


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "cats"),
        ("1", "10"),
        ("1", "-1"),
        ("0.1", "1"),
        ("1.05", "1.5"),
        ("1.1", "11"),
        ("A", "A-"),
        ("10.0.0.1", "10.0.0.2"),
        ("u", "\u00fc"),
        ("valid", "invalid"),
    ],
)
def test_names_that_do_not(one: str, other: str) -> None:
    assert folded(one) != folded(other)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "checkout")


def write_source(root, kind):
    """Sixteen images of classes that look alike, with the name of the source."""
    names = ["cat", "Cat"]
    if kind == "folder":
        write_folder(root, {"cat": 8, "Cat": 8})
        return root
    root.mkdir()
    if kind == "manifest":
        for number in range(16):
            (root / f"{number}.png").write_bytes(encoded(pixels(number)))
        rows = "".join(f"{number}.png,{names[number % 2]}\n" for number in range(16))
        (root / "manifest.csv").write_text(f"path,label\n{rows}")
        return root
    images = np.stack([pixels(number) for number in range(16)])
    np.savez(root / "set.npz", images=images, labels=np.array(names * 8))
    return root / "set.npz"


@pytest.mark.parametrize("kind", ["folder", "manifest", "npz"])
def test_such_classes_are_refused_and_named(workspace, tmp_path, kind):
    source = write_source(tmp_path / "source", kind)
    with pytest.raises(DataError) as caught:
        load(workspace, params(kind, source))
    text = str(caught.value)
    first = {"folder": "Cat/0.png", "manifest": "1.png", "npz": "images[1]"}[kind]
    assert f"'Cat' (8 images, {first} the first) and 'cat' (8 images" in text
    assert "differ in small and capital letters" in text
    assert "data.on_similar_classes to warn" in text
    assert caught.value.exit_code == 2
    assert not workspace.loaded.exists()


def test_those_who_mean_it_are_believed(workspace, tmp_path, caplog):
    source = write_source(tmp_path / "source", "folder")
    dataset = load(workspace, params("folder", source, on_similar_classes="warn"))
    assert dataset.classes == ("Cat", "cat")
    assert "differ in small and capital letters" in caplog.text
    report = (workspace.loaded / "report.txt").read_text(encoding="utf-8")
    assert "Classes whose names look alike: 1\n" in report


def test_a_sign_that_cannot_be_seen_is_shown(workspace, tmp_path):
    write_folder(tmp_path / "source", {"cat": 4, "cat\u200b": 4})
    with pytest.raises(DataError) as caught:
        load(workspace, params("folder", tmp_path / "source"))
    assert r"cat\\u200b" in str(caught.value)
    assert "differ in signs that cannot be seen" in str(caught.value)


def test_splits_of_classes_that_look_alike_are_splits(workspace, tmp_path):
    source = tmp_path / "source"
    write_folder(source / "train", {"Cat": 4, "Dog": 4})
    write_folder(source / "test", {"cat": 2, "dog": 2}, 100)
    with pytest.raises(DataError, match="'Cat' .* and 'cat' .* differ"):
        load(workspace, params("folder", source))
