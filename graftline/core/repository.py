"""The git repository that a checkout belongs to: its own, or a bigger one that it lies below.

Needs nothing but Python's standard library, so that the set-up can ask too.
"""

from __future__ import annotations

import configparser
import os
import subprocess
from pathlib import Path

from graftline.core.errors import RepositoryError

PLACES = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE"),
    *("GIT_CONFIG", "GIT_GRAFT_FILE", "GIT_SHALLOW_FILE", "GIT_REPLACE_REF_BASE"),
    *("GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS"),
    "GIT_ICASE_PATHSPECS",
)
"""What a hook or a call around this one leaves: git would look at another repository or index."""

_TIMEOUT_S = 3600.0
"""A status of a large repository on a busy disk takes minutes; a commit is not lost for that. Only
what hangs, as on a mounted folder that does not answer, takes so long."""
_SAFE = "git config --global --add safe.directory"


def git(root: Path, *arguments: str) -> str | None:
    """What a git command printed, with every byte of it; None if it failed.

    Args:
        root: The checkout's root, in which it runs.
        arguments: Behind ``git``.
    """
    try:
        done = _ended(root, *arguments)
    except (OSError, RepositoryError):
        return None
    return done.stdout if done.returncode == 0 else None


def top(root: Path) -> Path | None:
    """The top folder of the repository's files: ``root`` itself, or a folder above it."""
    said = git(root, "rev-parse", "--show-toplevel")
    return None if said is None else Path(said.removesuffix("\n"))


def below_top(root: Path) -> str:
    """Where the checkout lies below the repository's top, as in ``work/vision``; empty at it."""
    said = git(root, "rev-parse", "--show-prefix") or ""
    return said.removesuffix("\n").rstrip("/")


def changed_files(root: Path) -> list[str] | None:
    """The checkout's files that differ from the last commit, relative to its root.

    Of a renamed file both names are given. Where git tracks nothing of the checkout, as where it
    was copied into another repository, that is ``.``. None if git cannot tell.
    """
    if git(root, "ls-files", "--", ".") == "":
        return ["."]
    # NUL between names: no quoting, whatever core.quotePath says, and paths from the top, whatever
    # status.relativePaths says.
    said = git(root, "status", "--porcelain=v1", "-z", "--untracked-files=no", "--", ".")
    if said is None:
        return None
    prefix = f"{place}/" if (place := below_top(root)) else ""
    fields = iter(said.split("\0"))
    names = []
    for field in fields:
        if not field:
            continue
        names.append(field[3:])
        if "R" in field[:2] or "C" in field[:2]:
            names.append(next(fields))
    # A file may have come from another folder of the repository; that one is not ours.
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def git_folders(root: Path) -> tuple[Path, Path] | None:
    """Git's folder for these files, and the one that all worktrees share; None without git."""
    said = git(root, "rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir")
    if said is None:
        return None
    own, common = said.splitlines()
    return Path(own), Path(common)


def check_repository(root: Path) -> None:
    """Sees to it that git and DVC can be used here, before anything is changed.

    Raises:
        RepositoryError: If they cannot; the message holds the command that helps.
    """
    if not (root / "dvc.yaml").is_file():
        raise RepositoryError(
            "there is no dvc.yaml here, so this is no project of Graftline",
            where=str(root),
            fix="change into the project's root and run again, or name it: graftline -C FOLDER …; "
            "graftline init FOLDER makes a new one",
        )
    if not _goes_without_git(root):
        check_git(root)
    if not (root / ".dvc").is_dir():
        raise RepositoryError(
            "DVC's folder .dvc is not here; a copy without hidden files lacks it",
            where=str(root),
            fix=_dvc_back(root),
        )


def check_git(root: Path) -> None:
    """Sees to it that git tells the commit that the checkout is at.

    Raises:
        RepositoryError: If it does not; the message holds the command that helps.
    """
    try:
        done = _ended(root, "rev-parse", "--verify", "--quiet", "HEAD")
        if done.returncode == 0:
            return
        done = _ended(root, "rev-parse", "--git-dir")
    except FileNotFoundError:
        raise RepositoryError(
            "git is not installed, and Graftline asks it for the commit of every run",
            where=str(root),
            fix="install it (on Debian and Ubuntu: apt install git)",
        ) from None
    if done.returncode == 0:
        raise RepositoryError(
            "the git repository has no commit yet, so no run could say which code it was made by",
            where=str(root),
            fix=f"git add --all && {_commit(root)}",
        )
    said = done.stderr.strip()
    for line in said.splitlines():
        if line.strip().startswith(_SAFE):
            raise RepositoryError(
                "git does not trust this checkout, since it belongs to another user, and so tells "
                "no commit",
                where=str(root),
                fix=line.strip(),
            )
    raise RepositoryError(
        "this checkout is in no git repository, as where it was downloaded as a ZIP: "
        + (said.splitlines() or ["git does not say why"])[0],
        where=str(root),
        fix=f"git init --quiet && git add --all && {_commit(root)}\n"
        "or, to go without git and without graftline reproduce: "
        "printf '[core]\\n    no_scm = true\\n' >> .dvc/config.local",
    )


def check_own_git(root: Path) -> None:
    """As :func:`check_git`, if there is any sign of git here or above.

    Raises:
        RepositoryError: See :func:`check_git`.
    """
    here = root.resolve()
    if not _goes_without_git(root) and any(
        (one / ".git").exists() for one in (here, *here.parents)
    ):
        check_git(root)


def committed(root: Path, message: str) -> bool:
    """Makes a commit of what is staged, with a name for it where git knows none.

    No hook of the user's runs, and nobody is asked for a signature.
    """
    known = git(root, "var", "GIT_COMMITTER_IDENT") is not None
    who = () if known else ("-c", "user.name=me", "-c", "user.email=me@localhost")
    plain = ("-c", f"core.hooksPath={os.devnull}", "-c", "commit.gpgSign=false")
    return git(root, *who, *plain, "commit", "--quiet", "--message", message) is not None


def _goes_without_git(root: Path) -> bool:
    """Whether DVC was told to (``core.no_scm``)."""
    settings = configparser.RawConfigParser(strict=False)
    try:
        settings.read([root / ".dvc" / "config", root / ".dvc" / "config.local"], encoding="utf-8")
        return settings.getboolean("core", "no_scm", fallback=False)
    except (configparser.Error, ValueError, OSError):
        # DVC says what is wrong with its own files.
        return False


def _commit(root: Path) -> str:
    """The command of a first commit, with a name for it where git knows none."""
    try:
        known = _ended(root, "var", "GIT_COMMITTER_IDENT").returncode == 0
    except OSError:
        known = False
    who = "" if known else "-c user.name=me -c user.email=me@localhost "
    return f"git {who}commit --quiet --message 'As downloaded'"


def _dvc_back(root: Path) -> str:
    if git(root, "ls-files", "--", ".dvc/config"):
        return "git checkout -- .dvc .dvcignore"
    if _goes_without_git(root) or git(root, "rev-parse", "HEAD") is None:
        return "dvc init --no-scm"
    return "dvc init --subdir" if below_top(root) else "dvc init"


def _ended(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return _run(root, *arguments)
    except subprocess.TimeoutExpired:
        raise RepositoryError(
            f"git {arguments[0]} has not ended within {_TIMEOUT_S:g} s",
            where=str(root),
            fix=f"see whether git -C {root} status ends, and whether the disk answers",
        ) from None


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if name not in PLACES}
    return subprocess.run(
        ["git", *arguments],
        cwd=root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        # A name may hold bytes that are no text.
        errors="surrogateescape",
        timeout=_TIMEOUT_S,
        check=False,
        # In English, since what it says is looked at.
        env={**environment, "LC_ALL": "C"},
    )
