"""A temporary git worktree: a commit of this checkout as files of their own, for a while.

It lies beside the repository, so that paths which begin with ``../`` lead where they did, and
shares the checkout's DVC cache and remotes. A checkout below a bigger repository lies at the same
place below the worktree.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graftline.core.errors import ReproductionError
from graftline.core.process_identity import TAG, name_tag, tag_lives
from graftline.core.repository import PLACES, below_top, top
from graftline.core.silence import ended
from graftline.operations.dvc_cache import cache_folder
from graftline.operations.dvc_commands import dvc_ended

CACHE = Path(".dvc", "cache-of-checkout")
"""A link in the worktree to the checkout's cache."""
_PREFIX = ".graftline-worktree-"
_OURS = re.compile(rf"{re.escape(_PREFIX)}{TAG}-.*")
# A hook of the checkout's has nothing to do here, and could do anything; a commit is what its
# number says, not what a replacement (refs/replace) makes of it; other ends of lines would be other
# code.
_GIT = (
    *("git", "--no-replace-objects"),
    *("-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false"),
)
_WHOLE_NUMBER = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def is_commits_number(text: str) -> bool:
    """Whether a text is a commit's whole number: no name, no part of one, no option."""
    return _WHOLE_NUMBER.fullmatch(text) is not None


def has_commit(root: Path, commit: str) -> bool:
    """Whether a checkout's git knows a commit, by its whole number."""
    if not is_commits_number(commit):
        return False
    done = _ended(root, *_GIT, "cat-file", "-t", commit)
    return done.returncode == 0 and done.stdout.strip() == "commit"


def is_ours(root: Path, commit: str) -> bool:
    """Whether a branch of a checkout's own, or what is checked out, leads to a commit.

    What was only fetched is not: anybody may have written it.
    """
    done = _ended(
        root, *_GIT, "for-each-ref", "--count=1", "--format=x", f"--contains={commit}", "refs/heads"
    )
    if done.returncode == 0 and done.stdout:
        return True
    # Without a branch: a HEAD that is detached.
    return _ended(root, *_GIT, "merge-base", "--is-ancestor", commit, "HEAD").returncode == 0


@contextmanager
def worktree(root: Path, commit: str) -> Iterator[Path]:
    """The checkout as it was at a commit, in a worktree that is removed at the end.

    What an earlier process left that was killed is removed first.

    Args:
        root: The checkout's root.
        commit: Which one.

    Yields:
        The checkout's root in the worktree.

    Raises:
        ReproductionError: If git cannot make it, or the commit does not hold the checkout.
    """
    remove_leftovers(root)
    place = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{name_tag()}-", dir=_parent(root)))
    try:
        done = _ended(
            root, *_GIT, "worktree", "add", "--quiet", "--force", "--detach", str(place), commit
        )
        if done.returncode:
            raise ReproductionError(
                f"git cannot make a worktree of {commit[:12]}: {done.stderr.strip()}",
                where=str(place),
                fix="run git worktree prune, and try again",
            )
        below = below_top(root)
        copy = place / below
        if not copy.is_dir():
            raise ReproductionError(
                f"the commit {commit[:12]} has no folder {below}, where this checkout lies now",
                where=str(root),
                fix="run this in a checkout where the folder lies as it did then",
            )
        _link_neighbours(root, copy, len(Path(below).parts))
        _share_cache(root, copy)
        yield copy
    finally:
        _remove(root, place)


def remove_leftovers(root: Path) -> list[Path]:
    """Removes worktrees of processes that are gone; returns where they were."""
    removed = []
    for path in _parent(root).glob(f"{_PREFIX}*"):
        name = _OURS.fullmatch(path.name)
        if name and not tag_lives(name["tag"]) and _is_of(root, path):
            _remove(root, path)
            removed.append(path)
    return removed


def _parent(root: Path) -> Path:
    return (top(root) or root).resolve().parent


def _link_neighbours(root: Path, copy: Path, floors: int) -> None:
    """Beside the checkout and above it, what no commit holds is there too, such as images."""
    here, there = root.resolve(), copy
    for _ in range(floors):
        here, there = here.parent, there.parent
        for path in here.iterdir():
            if not (there / path.name).exists():
                (there / path.name).symlink_to(path)


def _is_of(root: Path, path: Path) -> bool:
    """Whether a folder is a worktree of this checkout, and not of one beside it."""
    try:
        text = (path / ".git").read_text(encoding="utf-8")
    except OSError:
        return False
    own = _ended(
        root, *_GIT, "rev-parse", "--path-format=absolute", "--git-common-dir"
    ).stdout.strip()
    named = Path(text.removeprefix("gitdir:").strip())
    return bool(own) and named.resolve().is_relative_to(Path(own).resolve())


def _share_cache(root: Path, place: Path) -> None:
    environment = _without_places()
    cache = cache_folder(root, environment) or root / ".dvc" / "cache"
    local = root / ".dvc" / "config.local"
    if local.is_file() and (place / ".dvc").is_dir():
        shutil.copy(local, place / ".dvc" / "config.local")
    # DVC cannot write a path that is not ASCII into its settings, so it is given a link.
    if (place / ".dvc").is_dir():
        target = cache.resolve()
        # Nothing can be made at a link that leads nowhere.
        target.mkdir(parents=True, exist_ok=True)
        (place / CACHE).symlink_to(target)
    done = dvc_ended(place, "cache", "dir", "--local", str(CACHE), environment=environment)
    if done.returncode:
        raise ReproductionError(
            f"DVC cannot be used in the worktree: {done.stderr.strip()}",
            where=str(place),
            allowed="a commit that holds .dvc/config",
        )


def _remove(root: Path, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    _ended(root, *_GIT, "worktree", "prune")


def _ended(cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command that came to its end, with what it said."""
    return ended(command, cwd=cwd, environment=_without_places())


def _without_places() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if name not in PLACES}
