"""``graftline init``: makes a project, a folder that its user owns."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import graftline
from graftline.core.errors import ProjectError, RepositoryError
from graftline.core.files import write_text
from graftline.core.params import params_from_record
from graftline.core.params.yaml_changes import with_values
from graftline.core.params.yaml_text import parse_yaml
from graftline.core.repository import committed, git, top
from graftline.core.workspace import PARAMS_FILE
from graftline.operations.project_files import (
    WRITTEN_FILE,
    Written,
    copied_files,
    digests,
    made_files,
    project_name,
)
from graftline.operations.proposals import Look, Proposal, look_at, placed, proposals

_LISTED = 10


@dataclass(frozen=True)
class NewProject:
    """What was made.

    Args:
        root: Where.
        look: What the images are; None without any.
        proposals: What ``params.yaml`` was given, with the reasons.
        repository: The top of the bigger repository that it lies in; None if it is one itself.
        untracked: The folder of images inside the project that git and DVC do not have yet.
    """

    root: Path
    look: Look | None
    proposals: tuple[Proposal, ...]
    repository: Path | None
    untracked: Path | None


def make_project(root: Path, images: Path | None) -> NewProject:
    """Makes a project: files, parameters, a git repository unless it lies in one, a first commit.

    Args:
        root: Its folder, which may be there already if nothing in it would be overwritten.
        images: A folder, table or archive that is looked at; None: the digits that come along.

    Raises:
        DataError: If the images cannot be used.
        ProjectError: If something stands in the way; nothing was written then.
        RepositoryError: If there is no git.
    """
    root = root.resolve()
    if shutil.which("git") is None:
        raise RepositoryError(
            "git is not installed, and a project is a git repository",
            fix="install it (on Debian and Ubuntu: apt install git)",
        )
    _refuse_own(root)
    name = project_name(root)
    look = None if images is None else look_at(images)
    files = copied_files() | made_files(name)
    wanted = [Proposal("register.model_name", name, "a project is one task, and so is a name")]
    if look is not None:
        look = placed(look, _path_from(root, Path(look.data.path or "")))
        wanted = proposals(look, name)
    files[PARAMS_FILE] = _with(files[PARAMS_FILE], wanted)
    _refuse_others(root, files)
    for path, text in files.items():
        write_text(root / path, text)
    Written(version=graftline.__version__, name=name, files=digests(files)).write(
        root / WRITTEN_FILE
    )
    above = _repository(root)
    if above is None:
        _first_commit(root, [*files, WRITTEN_FILE])
    inside = None if look is None else root / (look.data.path or "")
    return NewProject(
        root=root,
        look=look,
        proposals=tuple(wanted),
        repository=above,
        untracked=inside if inside is not None and inside.is_relative_to(root) else None,
    )


def _path_from(root: Path, images: Path) -> str:
    """Inside the project relative to it, so that it may move; elsewhere as it is."""
    images = images.resolve()
    return images.relative_to(root).as_posix() if images.is_relative_to(root) else str(images)


def _with(text: str, wanted: list[Proposal]) -> str:
    record = parse_yaml(text, PARAMS_FILE)
    for one in wanted:
        *sections, last = one.key.split(".")
        place = record
        for section in sections:
            place = place[section]
        place[last] = one.value
    params_from_record(record, PARAMS_FILE)
    comments = {one.key: one.reason for one in wanted if one.reason}
    return with_values(text, record, [one.key for one in wanted], {}, comments)


def _refuse_own(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise ProjectError("this is a file, and a project is a folder", where=str(root))
    if (root / WRITTEN_FILE).exists():
        raise ProjectError(
            "this is a project already",
            where=str(root),
            fix=f"cd {shlex.quote(str(root))} && graftline run; or graftline upgrade there, after "
            "a newer Graftline was installed",
        )


def _refuse_others(root: Path, files: dict[str, str]) -> None:
    in_the_way = [
        name
        for name, text in files.items()
        if (root / name).exists() or (root / name).is_symlink() or _is_file_above(root, name)
        if not _holds(root / name, text)
    ]
    if in_the_way:
        more = len(in_the_way) - _LISTED
        shown = ", ".join(in_the_way[:_LISTED]) + (f" and {more} more" if more > 0 else "")
        raise ProjectError(
            f"files that a project has are there already, with other contents: {shown}",
            where=str(root),
            allowed="a new folder, an empty one, or one in which nothing would be overwritten",
            fix="name another folder, or move these files out of the way",
        )


def _is_file_above(root: Path, name: str) -> bool:
    between = (root / part for part in Path(name).parents if part != Path())
    return any(one.exists() and not one.is_dir() for one in between)


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def _repository(root: Path) -> Path | None:
    """The repository that tracks, or would track, a folder; None where there is none."""
    found = top(root)
    # What a repository ignores does not belong to it.
    ignored = found is not None and git(root, "check-ignore", "--quiet", ".") is not None
    return None if ignored else found


def _first_commit(root: Path, files: list[str]) -> None:
    if git(root, "init", "--quiet") is None:
        raise RepositoryError("git init failed", where=str(root), fix="git init, and see why")
    # Only what was written: images that lie here are nothing for git.
    git(root, "add", "--", *files)
    if not committed(root, "A new project of Graftline"):
        raise RepositoryError(
            "git made no commit",
            where=str(root),
            fix="git add --all && git commit, and see why; the project is whole otherwise",
        )
