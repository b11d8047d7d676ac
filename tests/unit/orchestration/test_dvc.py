from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from graftline.core.errors import (
    DataError,
    GraftlineError,
    PipelineBusyError,
    StageFailedError,
    StalledError,
    StorageFullError,
)
from graftline.core.processes import ProcessIdentity, runs
from graftline.core.silence import ended
from graftline.core.workspace import Workspace
from graftline.operations import dvc_commands
from graftline.orchestration import dvc
from graftline.orchestration.dvc import StageCommand, Staleness, end_orphans, reproduce, staleness
from tests.unit.core.test_checksums import rot

STAGE = """\
stages:
  toy:
    cmd: {cmd}
    deps: [in.txt]
    outs: [out.txt]
"""


def project(root: Path, cmd: str, *options: str) -> Workspace:
    (root / "dvc.yaml").write_text(STAGE.format(cmd=cmd), encoding="utf-8")
    (root / "in.txt").write_text("one", encoding="utf-8")
    init = ["dvc", "init", "--quiet", *(options or ("--no-scm",))]
    subprocess.run([sys.executable, "-m", *init], cwd=root, check=True)
    return Workspace(root)


def command(workspace: Workspace, silence_s: float = 60) -> StageCommand:
    log_file = workspace.var / "logs" / "toy.log"
    return StageCommand("toy", log_file, {"WORD": "from above"}, silence_s=silence_s)


def test_a_stage_runs_with_its_lines_told_and_kept(tmp_path: Path) -> None:
    workspace = project(tmp_path, "echo $WORD && cp in.txt out.txt")
    assert staleness(workspace).stale == {"toy"}
    told: list[str] = []
    assert reproduce(workspace, command(workspace), told.append) == "executed"
    assert told == ["from above"]
    assert "from above" in (workspace.var / "logs" / "toy.log").read_text()
    assert reproduce(workspace, command(workspace), told.append) == "unchanged"
    assert staleness(workspace).stale == frozenset()
    (workspace.root / "out.txt").unlink()
    assert reproduce(workspace, command(workspace), told.append) == "restored"
    assert not (workspace.var / "stage.json").exists()


def test_a_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    workspace = project(tmp_path, "echo")
    (tmp_path / "images").mkdir()
    text = (tmp_path / "dvc.yaml").read_text(encoding="utf-8")
    (tmp_path / "dvc.yaml").write_text(text.replace("[in.txt]", "[images]"), encoding="utf-8")
    backbone = {"weights": "random", "cut": "block_5_add"}
    record = {"data": {"source": "folder", "path": "images"}, "backbone": backbone}
    (tmp_path / "params.yaml").write_text(json.dumps(record), encoding="utf-8")
    for name in (b"\xe4.png", b"\xf6.png"):
        with open(os.fsencode(tmp_path / "images") + b"/" + name, "wb"):
            pass
    with pytest.raises(DataError, match=r"2 files have one: .*images/\\udce4.png") as told:
        staleness(workspace)
    assert "convmv" in (told.value.fix or "")


def test_what_dvc_says_of_git_is_not_passed_on(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    workspace = project(tmp_path, "echo $WORD && cp in.txt out.txt", "--force")
    told: list[str] = []
    reproduce(workspace, command(workspace), told.append)
    assert told == ["from above"]
    assert "\tgit add " in (workspace.var / "logs" / "toy.log").read_text()


@pytest.mark.slow
def test_a_damaged_list_of_a_folder_s_files_does_not_stay_in_the_way(tmp_path: Path) -> None:
    workspace = project(tmp_path, "mkdir -p out && cp in.txt out/")
    text = (tmp_path / "dvc.yaml").read_text(encoding="utf-8")
    text = text.replace("toy:", "load:").replace("[out.txt]", "[out: {persist: true}]")
    (tmp_path / "dvc.yaml").write_text(text, encoding="utf-8")
    load = StageCommand("load", workspace.var / "logs" / "load.log", {})
    reproduce(workspace, load, lambda _: None)
    assert staleness(workspace).stale == frozenset()
    (listed,) = (tmp_path / ".dvc" / "cache").rglob("*.dir")
    rot(listed, 99)
    assert staleness(workspace).stale == {"load"}
    reproduce(workspace, load, lambda _: None)
    # DVC itself would leave the list as it is, and run the stage for ever.
    assert staleness(workspace).stale == frozenset()


@pytest.mark.slow
def test_outputs_that_are_gone_come_back_from_the_cache(tmp_path: Path) -> None:
    workspace = project(tmp_path, "echo ran >> runs.txt && cp in.txt out.txt")
    text = (tmp_path / "dvc.yaml").read_text(encoding="utf-8")
    text = text.replace("[out.txt]", "[out.txt: {persist: true}]")
    (tmp_path / "dvc.yaml").write_text(text, encoding="utf-8")
    # Nothing is fetched of what was never there.
    assert staleness(workspace) == Staleness(frozenset({"toy"}))
    reproduce(workspace, command(workspace), lambda _: None)
    (tmp_path / "out.txt").unlink()
    assert staleness(workspace) == Staleness(frozenset(), frozenset({"toy"}))
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "one"
    # Gone, and not what its stage would make now.
    (tmp_path / "out.txt").unlink()
    (tmp_path / "in.txt").write_text("two", encoding="utf-8")
    assert staleness(workspace) == Staleness(frozenset({"toy"}))
    assert not (tmp_path / "out.txt").exists()
    (tmp_path / "in.txt").write_text("one", encoding="utf-8")
    shutil.rmtree(tmp_path / ".dvc" / "cache")
    assert staleness(workspace) == Staleness(frozenset({"toy"}))
    reproduce(workspace, command(workspace), lambda _: None)
    assert (tmp_path / "runs.txt").read_text(encoding="utf-8") == "ran\nran\n"


@pytest.mark.kill
def test_a_silent_stage_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    workspace = project(tmp_path, "sleep 60 & echo $! > child.txt; wait")
    started_s = time.monotonic()
    told: list[str] = []
    with pytest.raises(StalledError, match=r"stage toy was stopped: for 4 s it has used no CPU"):
        reproduce(workspace, command(workspace, silence_s=4), told.append)
    assert time.monotonic() - started_s < 40
    assert not runs(int((tmp_path / "child.txt").read_text()))
    assert any("it is stopped after 4 s of that" in line for line in told)


WORKS = {
    "computes and prints nothing": "sum(range(10**6)); time.sleep(0.02)",
    "prints and computes nothing": "time.sleep(1); print('.', flush=True)",
    "has others work for it": "subprocess.run([sys.executable, '-Sc', 'sum(range(10**6))'])",
}


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("computes and prints nothing", marks=pytest.mark.slow),
        "prints and computes nothing",
        pytest.param("has others work for it", marks=pytest.mark.slow),
    ],
)
def test_a_stage_that_works_is_never_stopped_however_long_it_works(
    tmp_path: Path, how: str
) -> None:
    code = f"""
import subprocess, sys, time
until = time.monotonic() + 6
while time.monotonic() < until:
    {WORKS[how]}
open("out.txt", "w").write("done")
"""
    (tmp_path / "work.py").write_text(code, encoding="utf-8")
    workspace = project(tmp_path, f"{sys.executable} work.py")
    told: list[str] = []
    assert reproduce(workspace, command(workspace, silence_s=4), told.append) == "executed"
    assert not any("it is stopped after" in line for line in told)


@pytest.mark.slow
def test_dvc_is_waited_for_as_long_as_it_looks_at_files(tmp_path: Path) -> None:
    workspace = project(tmp_path, "cp in.txt out.txt")
    slow = tmp_path / "slow"
    (slow / "dvc").mkdir(parents=True)
    works = "import time\nend = time.monotonic() + 6\n"
    works += "while time.monotonic() < end: sum(range(10**6)); time.sleep(0.02)\n"
    (slow / "dvc" / "__init__.py").touch()
    (slow / "dvc" / "__main__.py").write_text(works + "print('{}')\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(slow)}
    command = [sys.executable, "-m", "dvc", "status"]
    done = ended(command, cwd=workspace.root, environment=environment, silence_s=3)
    assert (done.returncode, done.stdout) == (0, "{}\n")


@pytest.mark.kill
def test_a_dvc_that_hangs_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = project(tmp_path, "cp in.txt out.txt")
    # As a folder on a server that is gone: who reads it sleeps.
    (tmp_path / "in.txt").unlink()
    os.mkfifo(tmp_path / "in.txt")
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc" / "__init__.py").touch()
    (tmp_path / "dvc" / "__main__.py").write_text("open('in.txt').read()\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(dvc_commands, "ended", partial(ended, silence_s=3))
    with pytest.raises(StalledError) as caught:
        staleness(workspace)
    assert "dvc status --json was stopped: for 3 s" in str(caught.value)
    assert "run again" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_broken_dvc_yaml_is_reported_with_what_dvc_says(tmp_path: Path) -> None:
    workspace = project(tmp_path, "echo")
    (tmp_path / "dvc.yaml").write_text("stages: {toy: {outs: 3}}", encoding="utf-8")
    with pytest.raises(StageFailedError) as caught:
        staleness(workspace)
    assert "dvc.yaml" in str(caught.value)


def failure(tmp_path: Path, said: str, left: str | None = None) -> GraftlineError:
    one = command(Workspace(tmp_path))
    one.log_file.parent.mkdir(parents=True)
    if left is not None:
        one.error_file.write_text(left, encoding="utf-8")
    return dvc._failure(one, 255, said.splitlines())


def test_the_stages_own_error_comes_first(tmp_path: Path) -> None:
    own = DataError("one class only", where="data", allowed="two", fix="add one")
    error = failure(tmp_path, "ERROR: failed to reproduce 'toy'", own.to_json())
    assert type(error) is DataError
    assert str(error) == str(own)


@pytest.mark.parametrize("left", ["", "{", "{}", "[1]"])
def test_half_an_error_file_is_no_error_of_the_stages(tmp_path: Path, left: str) -> None:
    error = failure(tmp_path, "some line\nERROR: failed to run: x, exited with 3", left)
    assert type(error) is StageFailedError
    assert "exited with 3" in error.what
    assert error.where == str(tmp_path / "var" / "logs" / "toy.log")


@pytest.mark.parametrize("code", [-9, 137])
def test_a_killed_stage_is_said_to_be(tmp_path: Path, code: int) -> None:
    assert "SIGKILL" in failure(tmp_path, f"ERROR: failed to run: x, exited with {code}").what


def test_a_busy_dvc_is_named(tmp_path: Path) -> None:
    said = (
        "ERROR: '/x/out.txt' is busy, it is being blocked by:\n"
        "  (PID 4711): dvc repro\n\nIf there are no processes with such PIDs, you can remove it."
    )
    error = failure(tmp_path, said)
    assert type(error) is PipelineBusyError
    assert "(PID 4711): dvc repro" in error.what


@pytest.mark.kill
def test_an_orphan_is_ended_and_a_stranger_is_not(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert end_orphans(workspace) is None
    sleeps = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(sleeps, start_new_session=True) as orphan:
        identity = ProcessIdentity.of(orphan.pid)
        record = dvc._Group(stage="train", leader=identity)
        workspace.var.mkdir()
        group_file = workspace.var / "stage.json"

        stranger = identity.model_copy(update={"started": identity.started - 100})
        group_file.write_text(record.model_copy(update={"leader": stranger}).model_dump_json())
        assert end_orphans(workspace) is None
        assert identity.alive()

        group_file.write_text(record.model_dump_json())
        assert end_orphans(workspace) == "train"
        assert not identity.alive()
    assert not group_file.exists()


def test_a_disk_that_dvc_found_full_is_for_the_user_to_mend(tmp_path: Path) -> None:
    error = failure(tmp_path, "ERROR: unexpected error - [Errno 28] No space left on device: 'a'")
    assert isinstance(error, StorageFullError)
    assert error.exit_code == 2


def test_a_password_that_a_stage_quotes_is_neither_told_nor_kept(tmp_path: Path) -> None:
    said = "cannot reach postgresql://ann:canary/w@db.example/x"
    workspace = project(tmp_path, f"echo {said} && echo two > out.txt")
    told: list[str] = []
    asked = command(workspace)
    assert reproduce(workspace, asked, told.append) == "executed"
    assert "cannot reach postgresql://***@db.example/x" in told
    # DVC tells what it runs, too.
    assert not [line for line in told if "canary" in line]
    assert "canary" not in asked.log_file.read_text()
