"""What counts as a change of a place, when it is announced, and when once more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from graftline.core.errors import DataError
from graftline.core.workspace import Workspace
from graftline.operations import source_watch
from graftline.operations.changes import FinishedFlow
from graftline.operations.source_watch import Sighting, digest_of, note_announced, sight

DVC_FILE = """\
outs:
- md5: {md5}
  size: 3
  nfiles: 1
  hash: md5
  path: images
{rest}"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.png").write_bytes(b"one")
    (tmp_path / "params.yaml").write_text(
        "data: {source: npz, path: images.npz}\nbackbone: {weights: random, cut: block_3_add}\n"
    )
    (tmp_path / "images.npz").write_bytes(b"first")
    return Workspace(tmp_path)


def look(
    workspace: Workspace,
    place: str | None = "images",
    again_s: float = 3600.0,
    sleep: Callable[[float], None] = lambda _: None,
) -> Sighting:
    return sight(workspace, place, settle_s=1.0, again_s=again_s, sleep=sleep)


def test_the_first_look_announces_nothing(workspace: Workspace) -> None:
    seen = look(workspace)
    assert not seen.due
    assert str(seen) == "images is seen for the first time"


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "two.png").write_bytes(b"two"),
        lambda folder: (folder / "one.png").unlink(),
        lambda folder: (folder / "one.png").write_bytes(b"three"),
        lambda folder: os.utime(folder / "one.png", (1, 1)),
        lambda folder: (folder / "one.png").rename(folder / "eins.png"),
    ],
)
def test_each_kind_of_change_is_announced_once(
    workspace: Workspace, change: Callable[[Path], object]
) -> None:
    note_announced(workspace, look(workspace))
    assert not look(workspace).due
    change(workspace.root / "images")
    seen = look(workspace)
    assert seen.due
    # A watch that is killed before it is written down announces it again.
    assert look(workspace).due
    note_announced(workspace, seen)
    assert not look(workspace).due


def test_who_is_copying_is_waited_for(workspace: Workspace) -> None:
    note_announced(workspace, look(workspace))
    copied: list[int] = []

    def copy(_: float) -> None:
        if len(copied) < 3:
            copied.append(len(copied))
            (workspace.root / "images" / f"{len(copied)}.png").write_bytes(b"x")

    (workspace.root / "images" / "0.png").write_bytes(b"x")
    seen = look(workspace, sleep=copy)
    assert seen.due
    assert len(copied) == 3
    assert seen.digest == digest_of(workspace, "images")


def test_what_never_rests_is_not_announced(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_watch, "ROUNDS", 3)
    note_announced(workspace, look(workspace))
    names = iter(range(100))

    def copy(_: float) -> None:
        (workspace.root / "images" / f"{next(names)}.png").write_bytes(b"x")

    copy(0)
    seen = look(workspace, sleep=copy)
    assert not seen.due
    assert "changing still" in str(seen)


def finish(workspace: Workspace, digest: str) -> None:
    FinishedFlow(weight_digest="w", params={}, source_digest=digest).write(
        workspace.var / "finished.json"
    )


def test_the_source_is_held_against_what_was_trained_on(workspace: Workspace) -> None:
    finish(workspace, digest_of(workspace, None))
    assert str(look(workspace, None)) == "images.npz holds what was trained on last"
    (workspace.root / "images.npz").write_bytes(b"second")
    seen = look(workspace, None)
    assert seen.due
    note_announced(workspace, seen)
    assert not look(workspace, None).due
    assert str(look(workspace, None)) == "images.npz holds what it held"
    # The retraining did not come to its end.
    assert look(workspace, None, again_s=0.0).due
    finish(workspace, seen.digest)
    assert not look(workspace, None, again_s=0.0).due


def test_a_clock_that_was_set_back_does_not_silence_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(workspace, digest_of(workspace, None))
    (workspace.root / "images.npz").write_bytes(b"second")
    note_announced(workspace, look(workspace, None))
    monkeypatch.setattr(source_watch.time, "time", lambda: 0.0)
    assert look(workspace, None).due


def test_of_a_dvc_file_what_it_tracks_counts(workspace: Workspace) -> None:
    path = workspace.root / "images.dvc"

    def digest(md5: str, rest: str = "") -> str:
        path.write_text(DVC_FILE.format(md5=md5, rest=rest))
        return digest_of(workspace, "images.dvc")

    first = digest("aa.dir")
    assert digest("aa.dir", "desc: other words\n") == first
    assert digest("bb.dir") != first
    assert digest("aa.dir", "deps:\n- {path: 's3://x/y', etag: '1'}\n") != first


@pytest.mark.parametrize("content", ["[", "3", "outs: 3", "- 1"])
def test_what_is_no_dvc_file_is_said_to_be_none(workspace: Workspace, content: str) -> None:
    (workspace.root / "images.dvc").write_text(content)
    with pytest.raises(DataError, match=r"no \.dvc file"):
        digest_of(workspace, "images.dvc")


def test_a_place_that_went_is_no_empty_one(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        digest_of(workspace, "nowhere")


@pytest.mark.slow
def test_a_remote_is_listed_by_dvc(workspace: Workspace, tmp_path: Path) -> None:
    def dvc(*arguments: str) -> None:
        command = [sys.executable, "-m", "dvc", *arguments]
        subprocess.run(command, cwd=workspace.root, check=True, capture_output=True)

    dvc("init", "--no-scm", "--quiet")
    dvc("remote", "add", "--quiet", "incoming", str(workspace.root / "images"))
    first = digest_of(workspace, "remote://incoming")
    assert digest_of(workspace, "remote://incoming") == first
    (workspace.root / "images" / "two.png").write_bytes(b"two")
    assert digest_of(workspace, "remote://incoming") != first
    with pytest.raises(DataError, match="DVC cannot list it"):
        digest_of(workspace, "remote://absent")
