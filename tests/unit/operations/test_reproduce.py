from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graftline.cli.main import main
from graftline.core.files import write_text
from graftline.core.process_identity import name_tag
from graftline.core.workspace import Workspace
from graftline.operations import reproduce, worktrees
from graftline.operations.reproduce import Compared, Reproduction
from graftline.registry import tracking
from graftline.registry.tracking import PastRun
from tests import finished, histories

PARAMS = finished.some_params()


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def committed(tracked: Workspace) -> Workspace:
    """A workspace in git with one commit."""
    git(tracked.root, "init", "-q", "-b", "main")
    git(tracked.root, "add", "params.yaml")
    git(tracked.root, "commit", "-qm", "first")
    return tracked


def finished_run(workspace: Workspace) -> str:
    run_id = tracking.open_run(workspace, PARAMS)
    tracking.complete_run(run_id, workspace, PARAMS, status="FAILED")
    histories.client_of(workspace).set_terminated(run_id, "FINISHED")
    return run_id


def refused(workspace: Workspace, which: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["reproduce", "-C", str(workspace.root), which]) == 2
    return capsys.readouterr().err


def test_what_cannot_be_run_again_is_refused_with_the_reason(
    committed: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "has no version 7" in refused(committed, "7", capsys)
    assert "has no version champion" in refused(committed, "champion", capsys)
    assert "the history has no run" in refused(committed, "0" * 32, capsys)

    running = tracking.open_run(committed, PARAMS)
    assert "is RUNNING" in refused(committed, running, capsys)

    client, run_id = histories.client_of(committed), finished_run(committed)
    client.set_tag(run_id, "graftline.git_commit", "0" * 40)
    assert "git does not know the commit 000000000000" in refused(committed, run_id, capsys)
    client.delete_tag(run_id, "graftline.git_commit")
    assert "has no commit, so nobody knows its code" in refused(committed, run_id, capsys)

    write_text(committed.root / "dvc.yaml", "stages: {}\n")
    git(committed.root, "add", "dvc.yaml")
    write_text(committed.params_file, "seed: 1\n")
    dirty = finished_run(committed)
    said = refused(committed, dirty, capsys)
    assert "no commit holds dvc.yaml as it was" in said


@pytest.mark.parametrize(
    "commit",
    [
        *("HEAD", "main", "refs/heads/main", "v1", "0123456", "HEAD~1; touch x"),
        *("--upload-pack=touch x", "-h", "../../other", "0" * 39, "0" * 40 + "^", "G" * 40),
    ],
)
def test_what_is_no_commits_number_is_not_asked_of_git(
    committed: Workspace, commit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = finished_run(committed)
    histories.client_of(committed).set_tag(run_id, "graftline.git_commit", commit)
    assert "which is no commit's number" in refused(committed, run_id, capsys)
    assert not worktrees.has_commit(committed.root, commit)


def test_a_commit_that_was_only_fetched_is_not_run(
    committed: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fork = tmp_path / "fork"
    git(committed.root, "clone", "-q", str(committed.root), str(fork))
    write_text(fork / "dvc.yaml", "stages: {load: {cmd: touch owned}}\n")
    git(fork, "add", "dvc.yaml")
    git(fork, "commit", "-qm", "hostile")
    git(fork, "tag", "v9")
    hostile = git(fork, "rev-parse", "HEAD")
    git(committed.root, "remote", "add", "fork", str(fork))
    # With it comes its tag.
    git(committed.root, "fetch", "-q", "fork")
    assert git(committed.root, "rev-parse", "v9") == hostile

    run_id, client = finished_run(committed), histories.client_of(committed)
    client.set_tag(run_id, "graftline.git_commit", hostile)
    said = refused(committed, run_id, capsys)
    assert f"no branch of this checkout leads to the commit {hostile[:12]}" in said
    # The remedy is the one that it names.
    git(committed.root, "branch", f"reproduce-{hostile[:12]}", hostile)
    assert f"git branch reproduce-{hostile[:12]} {hostile}" in " ".join(said.split())
    assert "has no params.yaml any more" in refused(committed, run_id, capsys)

    tree = git(committed.root, "rev-parse", "HEAD^{tree}")
    client.set_tag(run_id, "graftline.git_commit", tree)
    assert "git does not know the commit" in refused(committed, run_id, capsys)


def test_files_of_a_run_that_lead_elsewhere_are_refused(
    committed: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = finished_run(committed)
    lock = tmp_path / "dvc.lock"
    listed = "{relpath: ../../../.bashrc, md5: aa}"
    lock.write_text(f"stages: {{load: {{outs: [{{path: data/loaded, files: [{listed}]}}]}}}}\n")
    client = histories.client_of(committed)
    client.log_artifact(run_id, str(committed.params_file))
    client.log_artifact(run_id, str(lock))
    said = refused(committed, run_id, capsys)
    assert "dvc.lock lists '../../../.bashrc', which leads out of the folder" in said
    assert list(committed.root.parent.glob(".graftline-worktree-*")) == []


@pytest.mark.slow
def test_a_link_in_the_commit_is_not_written_through(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.yaml"
    write_text(mine, "mine\n")
    (repository / "params.yaml").symlink_to(mine)
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "a link")
    write_text(tmp_path / "of-the-run.yaml", "the run's\n")
    write_text(tmp_path / "dvc.lock", "stages: {}\n")
    files = {"params.yaml": tmp_path / "params.yaml", "dvc.lock": tmp_path / "dvc.lock"}
    (tmp_path / "of-the-run.yaml").rename(files["params.yaml"])
    seen: list[str] = []

    def looked(copy: Any, *_: object) -> None:
        seen.append((copy.workspace.root / "params.yaml").read_text())

    monkeypatch.setattr(reproduce, "_wanted", lambda *_: PastRun("a" * 32, "", "FINISHED", {}, {}))
    monkeypatch.setattr(reproduce, "_commit", lambda *_: git(repository, "rev-parse", "HEAD"))
    monkeypatch.setattr(reproduce, "_from_history", lambda _w, _r, name, _f: files[name])
    monkeypatch.setattr(reproduce, "_repeated", looked)
    reproduce.reproduce(Workspace(repository), "a" * 32)
    assert seen == ["the run's\n"]
    assert mine.read_text() == "mine\n"


def test_a_shallow_clone_is_told_how_to_get_the_commit(
    committed: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = git(committed.root, "rev-parse", "HEAD")
    git(committed.root, "commit", "-q", "--allow-empty", "-m", "second")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{committed.root}", str(clone))
    run_id = finished_run(committed)
    histories.client_of(committed).set_tag(run_id, "graftline.git_commit", first)
    shutil.copytree(committed.var, clone / "var")
    there = Workspace(clone)

    assert "git fetch --unshallow" in refused(there, run_id, capsys)
    git(clone, "fetch", "-q", "--unshallow")
    # It gets as far as what this run never had.
    assert f"run {run_id} has no params.yaml any more" in refused(there, run_id, capsys)


def test_other_parameters_alone_do_not_make_a_run_dirty(
    committed: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads(PARAMS.model_dump_json(by_alias=True)) | {"seed": 7}
    write_text(committed.params_file, json.dumps(record))
    run_id = finished_run(committed)
    tags = histories.client_of(committed).get_run(run_id).data.tags
    assert (tags["graftline.git_dirty"], tags["graftline.git_changed"]) == ("true", "params.yaml")
    # It gets as far as what this run never had.
    assert f"run {run_id} has no params.yaml any more" in refused(committed, run_id, capsys)
    assert list(committed.root.parent.glob(".graftline-worktree-*")) == []


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True, capture_output=True
    )
    write_text(root / "code.py", "first\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


def test_a_worktree_is_the_commit_with_the_checkouts_cache_and_leaves_nothing(
    repository: Path,
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    write_text(repository / "code.py", "second\n")
    git(repository, "commit", "-qam", "second")
    second = git(repository, "rev-parse", "HEAD")
    # What git would do at a checkout: run a hook, and take the second commit for the first.
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    write_text(hook, f"#!/bin/sh\ntouch {repository.parent}/hooked\n")
    hook.chmod(0o755)
    # One that a killed process left, and one that is no worktree of this checkout.
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = repository.parent / f".graftline-worktree-{dead.pid}-1-x"
    git(repository, "worktree", "add", "-q", "--detach", str(left), first)
    foreign = repository.parent / f".graftline-worktree-{dead.pid}-1-y"
    foreign.mkdir()
    alive = repository.parent / f".graftline-worktree-{name_tag()}-z"
    git(repository, "worktree", "add", "-q", "--detach", str(alive), first)
    (repository.parent / "hooked").unlink()
    git(repository, "replace", first, second)

    with pytest.raises(KeyboardInterrupt), worktrees.worktree(repository, first) as place:
        assert (place / "code.py").read_text() == "first\n"
        [_, folder] = (place / ".dvc" / "config.local").read_text().split("dir = ")
        cache = (place / ".dvc" / folder.strip()).resolve()
        assert cache == (repository / ".dvc" / "cache").resolve()
        assert place.parent == repository.parent
        assert not left.exists()
        raise KeyboardInterrupt

    assert not place.exists()
    assert foreign.exists() and alive.exists()
    assert not (repository.parent / "hooked").exists()
    listed = git(repository, "worktree", "list", "--porcelain")
    assert listed.count("worktree ") == 2
    assert git(repository, "status", "--porcelain") == ""
    assert worktrees.has_commit(repository, first) and worktrees.is_ours(repository, first)
    assert not worktrees.has_commit(repository, "0" * 40)


def test_a_changed_package_explains_and_does_not_decide() -> None:
    def found(*compared: Compared) -> bool:
        return Reproduction(
            run_id="a", name="b", commit="c", data_from="DVC", compared=compared
        ).same

    package = Compared(what="keras", then="3.15", now="3.16", decides=False)
    weights = Compared(what="weights", then="ab", now="ab", decides=True)
    assert found(weights, package)
    assert not found(weights.model_copy(update={"now": "cd"}), package)
    assert not found(Compared(what="test_loss", then=0.1, now=0.1 + 1e-16, decides=True)) or (
        0.1 + 1e-16 == 0.1
    )
