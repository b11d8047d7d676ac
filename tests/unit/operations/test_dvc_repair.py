"""What DVC was writing when it was killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graftline.core.dvc_lock import read_lock
from graftline.core.workspace import Workspace
from graftline.operations import dvc_repair

LOCK = """\
schema: '2.0'
stages:
  load:
    cmd: python -m graftline load
    deps:
    - path: graftline/steps/load.py
      hash: md5
      md5: 0123
      size: 1
    params:
      params.yaml:
        seed: 3
    outs:
    - path: data/loaded
      hash: md5
      md5: 4567.dir
      size: 12
      nfiles: 3
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(dvc_repair, "_WRITING_S", 0)
    return Workspace(tmp_path)


def test_whole_records_stay(workspace: Workspace) -> None:
    rwlock = workspace.root / ".dvc" / "tmp" / "rwlock"
    rwlock.parent.mkdir(parents=True)
    rwlock.write_text(json.dumps({"read": {}, "write": {}}))
    (workspace.root / "dvc.lock").write_text(LOCK)
    assert dvc_repair.put_torn_aside(workspace) == []
    assert (workspace.root / "dvc.lock").read_text() == LOCK


@pytest.mark.parametrize(
    ("whole", "flipped"),
    [("schema: '2.0'", "schema: '2.2'"), ("outs:", "ouus:"), ("path:", "pauh:"), ("size", "siza")],
)
def test_a_lock_of_which_a_bit_flipped_is_put_aside(
    workspace: Workspace, whole: str, flipped: str
) -> None:
    (workspace.root / "dvc.lock").write_text(LOCK.replace(whole, flipped, 1))
    assert dvc_repair.put_torn_aside(workspace) == ["dvc.lock"]


def test_no_bit_of_a_lock_makes_reading_it_fail(tmp_path: Path) -> None:
    for bit in range(0, 8 * len(LOCK), 13):
        content = bytearray(LOCK.encode())
        content[bit // 8] ^= 1 << bit % 8
        (tmp_path / "dvc.lock").write_bytes(content)
        read_lock(tmp_path)


def test_what_is_not_there_is_not_torn(workspace: Workspace) -> None:
    assert dvc_repair.put_torn_aside(workspace) == []


@pytest.mark.parametrize(
    "end", ["", "schema: '2", "deps:", "- path: graftline", "outs:\n    - path: da"]
)
def test_a_lock_that_was_cut_off_is_put_aside(workspace: Workspace, end: str) -> None:
    text = LOCK[: LOCK.index(end) + len(end)] if end else ""
    (workspace.root / "dvc.lock").write_text(text)
    assert dvc_repair.put_torn_aside(workspace) == ["dvc.lock"]
    assert not (workspace.root / "dvc.lock").exists()
    assert (workspace.var / "torn" / "dvc.lock").read_text() == text


@pytest.mark.parametrize("text", ["", '{"read": {', "[]"])
def test_a_record_of_who_is_at_work_too(workspace: Workspace, text: str) -> None:
    rwlock = workspace.root / ".dvc" / "tmp" / "rwlock"
    rwlock.parent.mkdir(parents=True)
    rwlock.write_text(text)
    assert dvc_repair.put_torn_aside(workspace) == [".dvc/tmp/rwlock"]
    assert not rwlock.exists()


def test_what_is_just_being_written_stays(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = workspace.root / "dvc.lock"
    lock.write_text("")
    monkeypatch.setattr(dvc_repair.time, "sleep", lambda _: lock.write_text(LOCK))
    assert dvc_repair.put_torn_aside(workspace) == []
