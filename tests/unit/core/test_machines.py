"""Machines that share the folder: none takes what another one works on, or waits for a dead one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graftline.core import process_identity
from graftline.core.errors import PipelineBusyError
from graftline.core.locks import Holder, holder, pipeline_lock
from graftline.core.process_identity import name_tag, renew_in, tag_lives, tag_of
from graftline.core.processes import ProcessIdentity, end_group
from graftline.core.workspace import Workspace
from graftline.operations.leftovers import remove_leftovers

OTHER = "another-machine"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    alive = tmp_path / "var" / "alive"
    alive.mkdir(parents=True)
    before = process_identity._Renewal.folder
    renew_in(alive)
    yield Workspace(tmp_path)
    process_identity._Renewal.folder = before


def of_another_machine(pid: int | None = None) -> ProcessIdentity:
    """This process's number and start, on a machine whose numbers say nothing here."""
    return ProcessIdentity.of().model_copy(
        update={"pid": pid or os.getpid(), "host": OTHER, "boot": "another-boot"}
    )


def renew(workspace: Workspace, process: ProcessIdentity, ago_s: float = 0.0) -> Path:
    file = workspace.var / "alive" / tag_of(process.pid, process.started, process.host)
    file.touch()
    then = time.time() - ago_s
    os.utime(file, (then, then))
    return file


def held_by(workspace: Workspace, process: ProcessIdentity) -> None:
    record = Holder(process=process, command="graftline run", since="2026-01-01 00:00:00+00:00")
    record.write(workspace.var / "pipeline.json")


def test_a_process_of_another_machine_lives_as_long_as_it_says_so(workspace: Workspace):
    process = of_another_machine()
    assert process.elsewhere and not process.alive()
    renew(workspace, process, ago_s=20)
    assert process.alive()
    renew(workspace, process, ago_s=process_identity.GONE_S + 20)
    assert not process.alive()
    assert not (set(os.listdir(workspace.var / "alive")) - {name_tag()}) - {
        tag_of(process.pid, process.started, OTHER)
    }


def test_this_process_says_that_it_lives(workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process_identity, "RENEWED_EVERY_S", 0.05)
    me = ProcessIdentity.of()
    assert me.alive() and not me.elsewhere
    file = workspace.var / "alive" / name_tag()
    os.utime(file, (1, 1))
    until = time.monotonic() + 10
    while file.stat().st_mtime == 1 and time.monotonic() < until:
        time.sleep(0.02)
    assert file.stat().st_mtime > 1

    # Another machine has cleared it away while this one stood still.
    file.unlink()
    until = time.monotonic() + 10
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert file.exists()


def test_what_a_living_machine_holds_is_not_taken(workspace: Workspace):
    process = of_another_machine()
    held_by(workspace, process)
    file = renew(workspace, process)
    with (
        pytest.raises(PipelineBusyError, match=f"process {os.getpid()} on {OTHER} "),
        pipeline_lock(workspace),
    ):
        pass
    said: list[str] = []
    with (
        pytest.raises(PipelineBusyError, match="after waiting 0.3 s"),
        pipeline_lock(workspace, wait_s=0.3, on_wait=said.append),
    ):
        pass
    assert OTHER in said[0]
    # Once it has long said nothing, nobody waits for it.
    os.utime(file, (1, 1))
    with pipeline_lock(workspace):
        current = holder(workspace)
        assert current is not None and not current.process.elsewhere


def test_a_lock_that_the_file_server_keeps_for_a_dead_machine_is_taken(workspace: Workspace):
    from filelock import FileLock

    # As a file server does that does not know yet that the machine is gone.
    kept = FileLock(workspace.var / "pipeline.lock", is_singleton=False)
    with kept:
        held_by(workspace, of_another_machine())
        with pipeline_lock(workspace):
            assert holder(workspace) is not None


def test_half_written_files_of_a_living_machine_stay(workspace: Workspace):
    living, dead = of_another_machine(), of_another_machine(pid=1)
    renew(workspace, living)
    for process in (living, dead):
        tag = tag_of(process.pid, process.started, OTHER)
        (workspace.var / f".part.npz.{tag}-0123abcd.tmp").touch()
    # Beside what a killed process has left in the system's folder for temporary files.
    here = (path for path in remove_leftovers(workspace) if path.parent == workspace.var)
    removed = [path.name for path in here]
    assert removed == [f".part.npz.{tag_of(1, dead.started, OTHER)}-0123abcd.tmp"]
    assert tag_lives(tag_of(living.pid, living.started, OTHER))


def test_nothing_is_ended_by_the_number_of_another_machines_process(workspace: Workspace):
    process = of_another_machine()
    renew(workspace, process)
    assert not end_group(process)
