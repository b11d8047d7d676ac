"""What a killed process has left goes; what a living one is writing stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from graftline.core.files import replacing_directory, replacing_file, scratch_folder
from graftline.core.locks import pipeline_lock
from graftline.core.workspace import Workspace
from graftline.operations.leftovers import remove_leftovers

_WRITES = """
import os, sys, tempfile
from pathlib import Path
from graftline.core.locks import pipeline_lock, stage_lock
from graftline.core.files import *
from graftline.core.workspace import Workspace

root = Path(sys.argv[1])
tempfile.tempdir = str(root)
workspace = Workspace(root)
with (
    pipeline_lock(workspace),
    stage_lock(workspace, "train"),
    replacing_file(root / "params.yaml"),
    replacing_file(root / "var" / "deep" / "state.json"),
    replacing_directory(root / "data" / "features") as folder,
    scratch_folder() as scratch,
):
    (folder / "half").write_text("half")
    (scratch / "half").write_text("half")
    print("there", flush=True)
    input()
"""


@contextmanager
def writing(root: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is in the middle of writing everything that can be written."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITES, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stdout.readline() == "there\n"
        yield process
        process.kill()


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.mark.kill
def test_half_of_everything_goes_after_a_kill_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    workspace = Workspace(tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 0")
    with writing(tmp_path) as process:
        before = files(tmp_path)
        assert remove_leftovers(workspace) == []
        assert files(tmp_path) == before
        process.kill()
        # Until it is dead; that nobody has waited for it yet keeps nothing alive.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pipeline_lock(workspace):
            # Two files, a folder, a scratch folder, the record of the stage's holder.
            assert len(remove_leftovers(workspace)) == 5
    assert {name for name in files(tmp_path) if not name.endswith(".lock")} == {"params.yaml"}
    assert remove_leftovers(workspace) == []


def test_files_of_the_users_own_stay(tmp_path: Path) -> None:
    names = [
        ".tmp-notes",
        ".photo.tmp",
        ".photo.123.tmp",
        "data/raw/.photo.jpg.1-1-abcdefgh.tmp",
        "models/.keep",
        ".AAAAAAAAAAAAAAAAAAAAAA.tmp.jpg",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert remove_leftovers(Workspace(tmp_path)) == []
    assert files(tmp_path) == set(names)


@pytest.fixture
def dvc_left(tmp_path: Path) -> tuple[Path, Path]:
    """DVC's record of who is at work, and a file that it was copying."""
    record = tmp_path / ".dvc" / "tmp" / "rwlock"
    half = tmp_path / ".dvc" / "cache" / "files" / "md5" / "0a" / f".{'Ab-_' * 5}xy.tmp"
    for path in (record, half):
        path.parent.mkdir(parents=True)
    half.write_text("half")
    return record, half


def test_what_dvc_left_goes_when_all_whom_it_names_are_gone(
    tmp_path: Path, dvc_left: tuple[Path, Path]
) -> None:
    record, half = dvc_left
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    record.write_text(json.dumps({"write": {"/x": {"pid": gone.pid, "cmd": "dvc repro"}}}))
    assert remove_leftovers(Workspace(tmp_path)) == sorted([record, half])
    assert not record.exists()
    assert not half.exists()


def test_nothing_of_dvcs_goes_while_it_is_at_work(
    tmp_path: Path, dvc_left: tuple[Path, Path]
) -> None:
    record, half = dvc_left
    record.write_text(json.dumps({"read": {"/x": [{"pid": os.getpid(), "cmd": "dvc repro"}]}}))
    assert remove_leftovers(Workspace(tmp_path)) == []
    record.unlink()
    with FileLock(record.with_name("lock")):
        assert remove_leftovers(Workspace(tmp_path)) == []
    assert half.exists()


@pytest.mark.parametrize("content", ["", "[", "[]", '{"write": []}', '{"read": {"/x": 3}}', "{}"])
def test_a_record_of_dvcs_that_is_broken_names_nobody(
    tmp_path: Path, dvc_left: tuple[Path, Path], content: str
) -> None:
    record, half = dvc_left
    record.write_text(content)
    assert remove_leftovers(Workspace(tmp_path)) == [half]


def test_names_tell_of_this_process_wherever_it_writes(tmp_path: Path) -> None:
    with (
        replacing_file(tmp_path / "reports" / "one.json"),
        replacing_directory(tmp_path / "models" / "two"),
        scratch_folder() as scratch,
    ):
        assert remove_leftovers(Workspace(tmp_path)) == []
        assert scratch.is_dir()
    assert not scratch.exists()
