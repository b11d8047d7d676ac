"""Half-written files of killed processes, which the next start removes.

Each temporary name of :mod:`graftline.core.files` tells which process made it, so that what a
living one is writing stays. DVC's temporary names tell nothing; they go only while DVC is not at
work.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from graftline.core.environment import ALIVE
from graftline.core.files import SCRATCH_PREFIX
from graftline.core.locks import Holder
from graftline.core.process_identity import TAG, tag_lives
from graftline.core.processes import runs
from graftline.core.workspace import Workspace
from graftline.operations.dvc_holders import read_holders
from graftline.operations.other_version import ENVIRONMENTS

_OURS = re.compile(rf"^\..+\.(?:tmp-)?{TAG}-[a-z0-9_]{{8}}(?:\.tmp|-old)?$")
_DVCS = re.compile(r"^\.[A-Za-z0-9_-]{22}\.tmp$")
_RAW = ("data",)
"""Where users may keep a million images of their own: looked at, but not below."""
_OUTPUTS = ("data/loaded", "data/preprocessed", "data/features", "models", "reports", "var")
_DVC_CACHE = ".dvc/cache"


def remove_leftovers(workspace: Workspace) -> list[Path]:
    """Takes away what a killed process has left half-written; call it while holding the pipeline.

    Args:
        workspace: The checkout.

    Returns:
        What was there: temporary files and folders of processes that
        are gone, records of lock holders that are gone, and DVC's own temporary files.
    """
    found = [path for path in _entries(workspace) if _is_abandoned(path)]
    scratch = Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*")
    found += [path for path in scratch if _is_abandoned(path) and _is_own(path)]
    found += [path for path in _holder_records(workspace) if not _held(path)]
    alive = (workspace.var / ALIVE).glob("*-*-h*")
    found += [path for path in alive if not tag_lives(path.name)]
    found += _dvc_leftovers(workspace)
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return sorted(set(found))


def _is_own(path: Path) -> bool:
    # Where the system keeps such things lie those of other users too.
    try:
        return not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()
    except OSError:
        return False


def _is_abandoned(path: Path) -> bool:
    name = _OURS.match(path.name)
    return name is not None and not tag_lives(name["tag"])


def _entries(workspace: Workspace) -> Iterator[Path]:
    """Everything that may bear a temporary name; what lies below such a name goes with it."""
    for folder in (workspace.root, *(workspace.root / name for name in _RAW)):
        with suppress(OSError):
            yield from folder.iterdir()
    for name in _OUTPUTS:
        yield from _below(workspace.root / name)


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*folders, *files))
        # An environment has tens of thousands of files, and none of these.
        folders[:] = [name for name in folders if not _OURS.match(name) and name != ENVIRONMENTS]


def _holder_records(workspace: Workspace) -> Iterator[Path]:
    yield workspace.var / "pipeline.json"
    yield from (workspace.var / "locks").glob("*.json")


def _held(path: Path) -> bool:
    try:
        return Holder.model_validate_json(path.read_text(encoding="utf-8")).process.alive()
    except ValidationError:
        return False
    except OSError:
        # There is none, or it was released a moment ago.
        return True


def _dvc_leftovers(workspace: Workspace) -> list[Path]:
    state = workspace.root / ".dvc" / "tmp"
    if not state.is_dir():
        return []
    found = []
    try:
        # DVC's own lock, so that it does not begin in between.
        with FileLock(state / "lock", timeout=0):
            record = state / "rwlock"
            pids = {holder.pid for holder in read_holders(record)}
            if pids and not any(map(runs, pids)):
                found.append(record)
            elif pids:
                return []
            folders = (*_OUTPUTS, _DVC_CACHE)
            found += [
                path
                for folder in folders
                for path in _below(workspace.root / folder)
                if _DVCS.match(path.name)
            ]
            for path in found:
                path.unlink(missing_ok=True)
    except (Timeout, OSError):
        return []
    return found
