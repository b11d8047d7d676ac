"""One list of litter, and every door that keeps to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from graftline.core.params import params_from_record
from graftline.core.workspace import Workspace
from graftline.data.fingerprint import source_state
from graftline.data.litter import is_litter
from graftline.inference.inputs import inputs
from graftline.inference.predict import expanded
from graftline.operations.source_watch import digest_of
from tests.unit.data.loading import encoded, pixels, write_folder

LEFT = ("@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/._0.png", "._0.png", "Thumbs.db")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    write_folder(folder, {"cat": 1, "dog": 1})
    return folder


def leave(folder: Path) -> None:
    for number, name in enumerate(LEFT):
        for place in (folder / name, folder / "cat" / name):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(encoded(pixels(100 + number)))


@pytest.mark.parametrize("name", ["cat", "recycled", "icon", "thumbs", "a.b", "$5", "#1", "@home"])
def test_what_may_be_a_class_is_none(name: str) -> None:
    assert not is_litter(name)


def test_the_watched_source_does_not_change(photos: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    record = {"backbone": {"weights": "random"}, "data": {"source": "folder", "path": str(photos)}}
    params = params_from_record(record, "the test").data
    before = source_state(workspace, params), digest_of(workspace, str(photos))
    leave(photos)
    assert (source_state(workspace, params), digest_of(workspace, str(photos))) == before


def test_it_is_not_predicted(photos: Path) -> None:
    leave(photos)
    wanted = [f"{photos}/cat/0.png", f"{photos}/dog/0.png"]
    for argument in (str(photos), f"{photos}/**/*.*"):
        assert [row.name for row in inputs([argument])] == wanted
        assert [row.name for row in expanded([argument])] == wanted


def test_what_is_named_is_predicted(photos: Path) -> None:
    leave(photos)
    thumbnails = f"{photos}/@eaDir/0.png"
    for argument in (thumbnails, f"{photos}/@eaDir/*.png/*"):
        assert [row.name for row in inputs([argument])] == [f"{thumbnails}/SYNOPHOTO_THUMB_M.jpg"]
