"""The project's name where several projects share a server: readable, and no other's."""

from __future__ import annotations

import secrets
import tomllib
from pathlib import Path
from typing import ClassVar

from graftline.core.records import Record
from graftline.core.workspace import Workspace
from graftline.operations.project_files import project_name

_ID_BYTES = 3


class ProjectId(Record):
    """``var/project.json``: what keeps two projects of one name apart."""

    lies_at: ClassVar[str] = "var/project.json"

    id: str
    root: str
    """Where the project lay when this was written."""


def name_on_servers(workspace: Workspace) -> str:
    """As in ``digits-3f9a2c``: what ``pyproject.toml`` calls the project, else its folder's name.

    The digits behind it stay as long as ``var/`` does, also where the project is moved. A copy of
    the whole folder gets others.
    """
    return f"{_spoken(workspace.root)}-{_id(workspace)}"


def with_project(name: str, project: str) -> str:
    """A name that carries the project's, which is not said twice."""
    return project if project.rpartition("-")[0] == name else f"{name}-{project}"


def _spoken(root: Path) -> str:
    try:
        record = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        name = record["project"]["name"]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError):
        name = root.resolve().name
    return project_name(Path(str(name)))


def _id(workspace: Workspace) -> str:
    here = str(workspace.root.resolve())
    known = ProjectId.find_in(workspace)
    if known is not None and known.root == here:
        return known.id
    if known is not None:
        other = ProjectId.find_in(Workspace(Path(known.root)))
        if other is None or other.id != known.id:
            # It was moved.
            known.model_copy(update={"root": here}).write(ProjectId.path_in(workspace))
            return known.id
    made = ProjectId(id=secrets.token_hex(_ID_BYTES), root=here)
    made.write(ProjectId.path_in(workspace))
    return made.id
