"""``graftline upgrade``: brings a project's files to the installed version, but for the user's own.

A file that is as Graftline wrote it is replaced. One that the user has changed stays as it is, and
the difference to what the installed version would write is shown.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import graftline
from graftline.core.code_lock import CODE_LOCK, changed_code
from graftline.core.errors import ProjectError
from graftline.core.files import write_text
from graftline.core.locks import pipeline_lock
from graftline.core.workspace import PARAMS_FILE, Workspace
from graftline.operations.project_files import (
    SCHEMA_FILE,
    WRITTEN_FILE,
    Written,
    copied_files,
    digest,
    made_files,
)

_ALWAYS = (CODE_LOCK, SCHEMA_FILE)
"""What is made from the installed code, and nobody's to change."""


@dataclass
class Upgrade:
    """What an upgrade has done.

    Args:
        before: The version that the project's files were of.
        now: The installed one.
        stale: The stages whose code has changed.
        written: Files that were brought to the installed version, or are new in it.
        removed: Files that the installed version has no more.
        kept: By path, how a file of the user's differs from that of the installed version.
        absent: Files that the user has taken away, and that stay away.
    """

    before: str
    now: str
    stale: tuple[str, ...]
    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)


def upgrade(workspace: Workspace) -> Upgrade:
    """Upgrades the project.

    Raises:
        PipelineBusyError: If a pipeline is running in it.
        ProjectError: If it was not made by ``graftline init``.
    """
    root = workspace.root
    known = Written.find_in(workspace)
    if known is None:
        raise ProjectError(
            f"there is no {WRITTEN_FILE} here, so nobody knows which files are as Graftline wrote "
            "them",
            where=str(root),
            allowed="a project that graftline init has made",
            fix="make one: graftline init FOLDER; where this is one: "
            f"git checkout -- {WRITTEN_FILE}",
        )
    with pipeline_lock(workspace):
        done = Upgrade(known.version, graftline.__version__, changed_code(workspace))
        files = copied_files() | made_files(known.name)
        # What the user has chosen is theirs.
        del files[PARAMS_FILE]
        now = {name: _brought(root, name, text, known.files, done) for name, text in files.items()}
        for name in known.files.keys() - files.keys() - {PARAMS_FILE}:
            _taken_away(root, name, known.files[name], done)
        record = {PARAMS_FILE: known.files[PARAMS_FILE], **now}
        known = Written(
            version=graftline.__version__,
            name=known.name,
            files={name: record[name] for name in sorted(record)},
        )
        known.write(root / WRITTEN_FILE)
    return done


def _brought(root: Path, name: str, text: str, known: Mapping[str, str], done: Upgrade) -> str:
    """Brings one file to the installed version; returns the digest to be known by from now on."""
    path = root / name
    present = _text(path)
    if present == text:
        return digest(text)
    if present is None and name in known and name not in _ALWAYS:
        done.absent.append(name)
        return known[name]
    if present is None or name in _ALWAYS or digest(present) == known.get(name):
        write_text(path, text)
        done.written.append(name)
        return digest(text)
    done.kept[name] = "".join(
        difflib.unified_diff(
            present.splitlines(keepends=True),
            text.splitlines(keepends=True),
            f"{name}, yours",
            f"{name}, graftline {graftline.__version__}",
        )
    )
    return known.get(name, digest(text))


def _taken_away(root: Path, name: str, known: str, done: Upgrade) -> None:
    present = _text(root / name)
    if present is not None and digest(present) == known:
        (root / name).unlink()
        done.removed.append(name)


def _text(path: Path) -> str | None:
    """A file's text, whatever its bytes are; None where there is no file."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return None
