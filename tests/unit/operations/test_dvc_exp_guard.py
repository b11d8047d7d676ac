"""What a killed dvc exp run leaves is refused, with the commands that bring everything back."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from graftline.core.errors import InterruptedExperimentError
from graftline.core.workspace import Workspace
from graftline.operations.dvc_exp_guard import (
    experiment_left,
    refuse_after_interrupted,
    refuse_experiment,
    told_of_experiment,
)


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)


def follow(workspace: Workspace, error: InterruptedExperimentError) -> None:
    """Does what the error says, word by word."""
    assert error.fix is not None
    for command in error.fix.removesuffix(", and run again").split(" && "):
        git(workspace.root, *command.split()[1:])


@pytest.fixture
def left(tmp_path: Path) -> Workspace:
    """The changes stashed, and the branch left, as DVC does it."""
    git(tmp_path, "init", "--initial-branch", "chosen")
    params = tmp_path / "params.yaml"
    params.write_text("seed: 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "one: two")
    params.write_text("seed: 2\n")
    git(tmp_path, "stash")
    git(tmp_path, "checkout", "--detach")
    return Workspace(tmp_path)


def test_it_is_refused_and_the_commands_bring_everything_back(left: Workspace) -> None:
    with pytest.raises(InterruptedExperimentError) as caught:
        refuse_after_interrupted(left)
    assert "git checkout --force chosen && git stash pop" in str(caught.value)
    follow(left, caught.value)
    assert left.params_file.read_text() == "seed: 2\n"
    refuse_after_interrupted(left)


def test_changes_that_dvc_could_not_put_back_are_refused_and_come_back(left: Workspace) -> None:
    # A file that a killed experiment had staged, and that the next one wrote once more.
    git(left.root, "stash", "pop")
    (left.root / "dvc.lock").write_text("stashed")
    git(left.root, "add", "dvc.lock")
    git(left.root, "stash")
    (left.root / "dvc.lock").write_text("made since")
    git(left.root, "checkout", "chosen")
    refuse_after_interrupted(left)  # a user who returned by hand is let be
    log = left.root / ".git" / "logs" / "HEAD"
    lines = log.read_text().splitlines()
    lines[-1] = lines[-1].partition("\t")[0] + "\tdvc: Restore HEAD to 'chosen'"
    log.write_text("\n".join(lines) + "\n")
    with pytest.raises(InterruptedExperimentError, match="could not give back") as caught:
        refuse_after_interrupted(left)
    follow(left, caught.value)
    assert left.params_file.read_text() == "seed: 2\n"
    assert (left.root / "dvc.lock").read_text() == "stashed"
    refuse_after_interrupted(left)
    staged = subprocess.run(
        ["git", "diff", "--cached", "--name-only"], cwd=left.root, capture_output=True, check=True
    )
    assert staged.stdout == b""


def test_a_branch_left_without_changes_is_told_where_dvc_says_that_it_was_its_doing(
    left: Workspace,
) -> None:
    git(left.root, "stash", "drop")
    refuse_after_interrupted(left)  # a user who left the branch by hand is let be
    record = left.root / ".dvc" / "tmp" / "exps" / "rwlock"
    record.parent.mkdir(parents=True)
    gone = subprocess.Popen(["true"])
    gone.wait()
    holder = {"pid": gone.pid, "cmd": "/usr/bin/dvc exp run"}
    record.write_text(json.dumps({"write": {"workspace": holder}}))
    # A later experiment, of a commit without a branch, came to its end.
    with (left.root / ".git" / "logs" / "HEAD").open("a") as log:
        line = "0 0 a <a@example.org> 0 +0000\tdvc: Restore HEAD to '0'"
        log.write(f"{line}\n")
    with pytest.raises(InterruptedExperimentError) as caught:
        refuse_after_interrupted(left)
    assert "git checkout chosen && git reset --quiet, and run again" in str(caught.value)
    follow(left, caught.value)
    refuse_after_interrupted(left)


def test_dvc_at_work_is_let_be(left: Workspace) -> None:
    record = left.root / ".dvc" / "tmp" / "exps" / "rwlock"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"write": {"workspace": {"pid": os.getpid(), "cmd": "dvc"}}}))
    refuse_after_interrupted(left)


def test_a_stage_inside_an_experiment_is_let_be(
    left: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "tipsy-gull")
    refuse_after_interrupted(left)


def test_a_commit_checked_out_by_hand_is_no_such_thing(left: Workspace) -> None:
    git(left.root, "commit", "--allow-empty", "--message", "another")
    refuse_after_interrupted(left)
    git(left.root, "checkout", "HEAD~")
    git(left.root, "stash", "drop")
    refuse_after_interrupted(left)


def test_a_stash_of_ones_own_is_no_such_thing(left: Workspace) -> None:
    git(left.root, "checkout", "chosen")
    refuse_after_interrupted(left)


def test_no_repository_is_no_such_thing(tmp_path: Path) -> None:
    refuse_after_interrupted(Workspace(tmp_path))


def test_what_an_experiment_has_left_is_told_until_it_is_committed(tmp_path: Path) -> None:
    root = tmp_path / "work" / "vision"
    root.mkdir(parents=True)
    workspace = Workspace(root)
    git(tmp_path, "init", "--quiet")
    workspace.params_file.write_text("seed: 1\n")
    git(root, "add", ".")
    git(root, "commit", "--message", "one")
    workspace.params_file.write_text("seed: 2\n")
    assert told_of_experiment(workspace) is None
    # As DVC keeps it: a commit of its own under this name.
    made = subprocess.run(
        ["git", "stash", "create"], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()
    git(root, "update-ref", "refs/exps/ab/cd/sixth-ruby", made)
    assert experiment_left(workspace) == "sixth-ruby"
    with pytest.raises(InterruptedExperimentError, match="experiment sixth-ruby") as caught:
        refuse_experiment(workspace)
    assert "git checkout params.yaml" in str(caught.value)

    workspace.params_file.write_text("seed: 3\n")
    refuse_experiment(workspace)
    workspace.params_file.write_text("seed: 2\n")
    git(root, "commit", "--all", "--message", "two")
    refuse_experiment(workspace)
