"""The state after a killed ``dvc exp run``: changes in the stash, and no branch.

DVC stashes what is not committed, leaves the branch, puts the changes back, and returns to the
branch at the end. Killed in between, the files are those of the last commit, or half of the
changes, and whatever runs next would run with these. It also leaves files staged, which keep the
experiment after it from putting the changes back: DVC then says so, and leaves them in the stash.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from graftline.core.errors import InterruptedExperimentError
from graftline.core.processes import runs
from graftline.core.repository import git, git_folders
from graftline.core.workspace import Workspace
from graftline.operations.dvc_holders import read_holders

_INSIDE = ("DVC_EXP_NAME", "DVC_ROOT")
_STASHED = re.compile(r"\tWIP on (?P<branch>[^:\n]+): (?P<commit>[0-9a-f]+) [^\n]*$")
_LEFT = re.compile(r"\tcheckout: moving from (?P<branch>\S+) to \S+$")
_RETURNED = re.compile(r"\S+ (?P<commit>[0-9a-f]{40}) .*\tdvc: Restore HEAD to ")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Of a later experiment, which began without a branch and came to its end.
_BY_DVC = re.compile(r"\t(dvc: Restore HEAD to |commit: dvc: commit experiment )")


def refuse_after_interrupted(workspace: Workspace) -> None:
    """Sees to it that nothing runs with parameters that nobody chose.

    Raises:
        InterruptedExperimentError: If a ``dvc exp run`` ended before it gave back what it had set
            aside; the message holds the commands that do.
    """
    if any(name in os.environ for name in _INSIDE):
        return
    folders = git_folders(workspace.root)
    if folders is None or _dvc_works(workspace.root):
        return
    own, common = folders
    head = _read(own / "HEAD").strip()
    stashed = _STASHED.search(_last_line(common / "logs" / "refs" / "stash"))
    if head.startswith("ref:"):
        _refuse_after_conflict(workspace, _last_line(own / "logs" / "HEAD"), stashed)
        return
    branch = _left_branch(own)
    if branch is None:
        return
    # Who checks out a commit by hand takes another than that from which they stashed something.
    if stashed is not None and head.startswith(stashed["commit"]):
        # Of the stash of a run that was killed after another one was, only the first names it.
        branch = stashed["branch"] if stashed["branch"] != "(no branch)" else branch
        raise InterruptedExperimentError(
            "a dvc exp run was killed here before it gave back what had not been committed",
            where=f"{workspace.root}: the branch {branch} was left, git stash holds the changes",
            # What is staged is DVC's doing, and would be in its way: see above.
            fix=f"git checkout --force {branch} && git stash pop && git reset --quiet, "
            "and run again",
        )
    if _names_an_experiment(workspace.root / ".dvc" / "tmp" / "exps" / "rwlock"):
        raise InterruptedExperimentError(
            "a dvc exp run was killed here before it returned to its branch",
            where=f"{workspace.root}: the branch {branch} was left",
            fix=f"git checkout {branch} && git reset --quiet, and run again",
        )


def _refuse_after_conflict(workspace: Workspace, moved: str, stashed: re.Match[str] | None) -> None:
    returned = _RETURNED.match(moved)
    # A user who stashes by hand is on a branch; DVC has left it by then.
    if returned is None or stashed is None or stashed["branch"] != "(no branch)":
        return
    if returned["commit"].startswith(stashed["commit"]):
        raise InterruptedExperimentError(
            "a dvc exp run could not give back what had not been committed",
            where=f"{workspace.root}: git stash holds the changes",
            # The whole repository's: the checkout may lie below a bigger one.
            fix="git checkout stash@{0} -- :/ && git stash drop && git reset --quiet, "
            "and run again",
        )


def _left_branch(own: Path) -> str | None:
    """The branch that was left last, if DVC alone has moved HEAD since."""
    for line in reversed(_read(own / "logs" / "HEAD").splitlines()):
        left = _LEFT.search(line)
        if left is not None and not _COMMIT.fullmatch(left["branch"]):
            return left["branch"]
        if left is None and not _BY_DVC.search(line):
            return None
    return None


def _dvc_works(root: Path) -> bool:
    state = root / ".dvc" / "tmp"
    return any(
        runs(holder.pid)
        for path in (state / "rwlock", state / "exps" / "rwlock")
        for holder in read_holders(path)
    )


def _names_an_experiment(path: Path) -> bool:
    return any("exp run" in holder.command for holder in read_holders(path))


def _last_line(path: Path) -> str:
    lines = _read(path).splitlines()
    return lines[-1] if lines else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def experiment_left(workspace: Workspace) -> str | None:
    """The experiment whose ``params.yaml`` lies here, as ``dvc exp run -S`` leaves it; else None.

    A ``params.yaml`` that was committed since is nobody's leaving.
    """
    root = workspace.root
    name = workspace.params_file.name
    here = git(root, "hash-object", "--", name)
    if here is None or here == git(root, "rev-parse", f"HEAD:./{name}"):
        return None
    listed = git(root, "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps") or ""
    for line in listed.splitlines():
        reference, commit = line.split()
        if reference.startswith("refs/exps/exec/"):
            continue
        # Relative to the checkout, which may lie below the repository's top.
        if git(root, "rev-parse", f"{commit}:./{name}") == here:
            return reference.rpartition("/")[2]
    return None


def told_of_experiment(workspace: Workspace) -> str | None:
    """A sentence on the experiment whose ``params.yaml`` lies here; None if none does."""
    if any(name in os.environ for name in _INSIDE) or (left := experiment_left(workspace)) is None:
        return None
    return f"params.yaml is as dvc exp run has left it after the experiment {left}"


def refuse_experiment(workspace: Workspace) -> None:
    """Sees to it that what runs by itself goes by parameters that somebody has chosen.

    Raises:
        InterruptedExperimentError: If ``params.yaml`` is what an experiment has left.
    """
    if told := told_of_experiment(workspace):
        raise InterruptedExperimentError(
            f"{told}, and nobody has committed it",
            where=str(workspace.params_file),
            fix="git commit params.yaml to go on from it, or git checkout params.yaml",
        )
