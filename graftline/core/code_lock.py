"""``graftline.lock``: the code of each stage as one digest, committed with the rest.

``dvc.yaml`` names it by the stage's key, so that a stage is stale when the code of its step has
changed, wherever that code is installed. Flows bring the file up to date at their start; a stage
whose code is another than the file says refuses to run, since DVC would write down the wrong one.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from graftline import __version__
from graftline.core.code_state import step_digests
from graftline.core.errors import CodeChangedError, MissingOutputError, StorageFullError
from graftline.core.files import sha256_record, write_text
from graftline.core.records import Record
from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace

CODE_LOCK = "graftline.lock"
_LINE = re.compile(r"^  (\w+): ([0-9a-f]{64})$", re.MULTILINE)
_HEAD = """\
# The code of each step as one digest. `graftline lock` writes this file, and flows do at their
# start. dvc.yaml names it, so that a step runs again when its code has changed.
"""


class _Known(Record):
    """``var/code.json``: the digests that belong to files of certain sizes and times."""

    files: str
    digests: dict[str, str]


def code_digests(workspace: Workspace) -> dict[str, str]:
    """The digest of each stage's code, as it is installed here.

    Reading the imports of all modules takes a fifth of a second, so it is done once for files of
    the same sizes and times.
    """
    kept, files = workspace.var / "code.json", _files()
    with contextlib.suppress(MissingOutputError, OSError):
        known = _Known.read(kept)
        if known.files == files and tuple(known.digests) == STAGES:
            return known.digests
    digests = step_digests(STAGES)
    # It only saves time: where nothing can be written, nothing is kept.
    with contextlib.suppress(OSError, StorageFullError):
        _Known(files=files, digests=digests).write(kept)
    return digests


def locked_digests(root: Path) -> dict[str, str]:
    """What ``graftline.lock`` says; nothing where it is absent or no such file."""
    return dict(_LINE.findall(_text(root)))


def changed_code(workspace: Workspace) -> tuple[str, ...]:
    """The stages whose code is another than ``graftline.lock`` says."""
    return _changed(workspace.root, code_digests(workspace))


def lock_code(workspace: Workspace) -> tuple[str, ...]:
    """Brings ``graftline.lock`` up to date; returns the stages whose code had changed."""
    digests = code_digests(workspace)
    changed = _changed(workspace.root, digests)
    text = lock_text(digests)
    # Another version may run the same code.
    if _text(workspace.root) != text:
        # Projects in one repository may share the file by a link, which stays one.
        write_text((workspace.root / CODE_LOCK).resolve(), text)
    return changed


def lock_text(digests: Mapping[str, str]) -> str:
    """What ``graftline.lock`` holds for the steps' digests."""
    lines = (f"  {stage}: {digest}\n" for stage, digest in digests.items())
    return f"{_HEAD}version: {__version__}\nsteps:\n{''.join(lines)}"


def refuse_other_code(workspace: Workspace, stage: str) -> None:
    """Sees to it that a stage runs the code that DVC writes down for it.

    Raises:
        CodeChangedError: If the code is another than ``graftline.lock`` says. Without that file
            nothing is said: DVC itself asks for it where ``dvc.yaml`` names it.
    """
    path = workspace.root / CODE_LOCK
    if path.exists() and stage in changed_code(workspace):
        raise CodeChangedError(
            f"the code of the step {stage} is another than {CODE_LOCK} says",
            where=str(path),
            fix="run graftline lock, which writes it down, and then the same command again; or "
            "python -m flows.train, which does both",
        )


def _text(root: Path) -> str:
    try:
        return (root / CODE_LOCK).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _changed(root: Path, digests: Mapping[str, str]) -> tuple[str, ...]:
    locked = locked_digests(root)
    return tuple(stage for stage, digest in digests.items() if locked.get(stage) != digest)


def _files() -> str:
    """A digest of the names, sizes and times of the package's modules."""
    root = Path(__file__).resolve().parents[1]
    return sha256_record([str(root), sorted(_stats(root))])


def _stats(folder: Path) -> Iterator[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _stats(Path(entry.path))
            elif entry.name.endswith(".py"):
                status = entry.stat()
                yield entry.path, status.st_size, status.st_mtime_ns
