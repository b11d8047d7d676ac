"""What a killed ``dvc exp run`` leaves: the changes that it had set aside, and no branch.

DVC stashes what is not committed, leaves the branch, puts the changes back, and returns to the
branch at the end. Killed in between, the files are those of the last commit, or half of the
changes, and whatever runs next would run with these.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from graftline.errors import InterruptedExperimentError
from graftline.processes import runs
from graftline.workspace import Workspace

_INSIDE = ("DVC_EXP_NAME", "DVC_ROOT")
_STASHED = re.compile(r"\tWIP on (?P<branch>[^:\n]+): (?P<commit>[0-9a-f]+) [^\n]*$")
_LEFT = re.compile(r"\tcheckout: moving from (?P<branch>\S+) to \S+$")


def refuse_after_interrupted(workspace: Workspace) -> None:
    """Sees to it that nothing runs with parameters that nobody chose.

    Raises:
        InterruptedExperimentError: If a ``dvc exp run`` was killed before it gave back what it
            had set aside; the message holds the commands that do.
    """
    if any(name in os.environ for name in _INSIDE):
        return
    branch = _interrupted(workspace.root)
    if branch is None:
        return
    raise InterruptedExperimentError(
        "a dvc exp run was killed here before it gave back what had not been committed",
        where=f"{workspace.root}: the branch {branch} was left, and git stash holds the changes",
        fix=f"{' && '.join(mending(branch))}, and run again",
    )


def mending(branch: str) -> tuple[str, ...]:
    """The commands that bring the branch and the changes back."""
    return (f"git checkout --force {branch}", "git stash pop")


def _interrupted(root: Path) -> str | None:
    """The branch that was left, if it was, the changes are stashed, and DVC is not at work."""
    git = root / ".git"
    head = _read(git / "HEAD")
    if not git.is_dir() or head.startswith("ref:"):
        return None
    stashed = _STASHED.search(_last_line(git / "logs" / "refs" / "stash"))
    left = _LEFT.search(_last_line(git / "logs" / "HEAD"))
    # Who checks out a commit by hand takes another than that from which they stashed something.
    if stashed is None or left is None or not head.startswith(stashed["commit"]):
        return None
    if _dvc_works(root):
        return None
    # Of the stash of a run that was killed after another one was, only the first names a branch.
    branch = left["branch"]
    return stashed["branch"] if stashed["branch"] != "(no branch)" else branch


def _dvc_works(root: Path) -> bool:
    state = root / ".dvc" / "tmp"
    return any(_names_the_living(path) for path in (state / "rwlock", state / "exps" / "rwlock"))


def _names_the_living(path: Path) -> bool:
    try:
        record = json.loads(_read(path))
        holders = list(record.get("write", {}).values())
        for readers in record.get("read", {}).values():
            holders += readers
        return any(runs(int(holder["pid"])) for holder in holders)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _last_line(path: Path) -> str:
    lines = _read(path).splitlines()
    return lines[-1] if lines else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
