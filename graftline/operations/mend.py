"""``graftline mend``: takes away what a failing disk has damaged, so that it is made anew.

DVC takes an object of its cache for whole once it has written it, goes by size and time for what
lies in the checkout, and may have one linked to the other. So both are read, whole: the outputs are
held to their own checksums, and the objects to their names, which are the MD5 of their bytes.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from graftline.core.checksums import verify_all
from graftline.core.dvc_lock import read_lock
from graftline.core.errors import DamagedFileError, MissingOutputError
from graftline.core.files import md5_file
from graftline.core.locks import pipeline_lock
from graftline.core.records import FreezePlan, Metrics
from graftline.core.workspace import Workspace
from graftline.operations.dvc_cache import FOLDER, object_in, objects_folder
from graftline.training.history import read_history

_NAME = re.compile(r"[0-9a-f]{32}(\.dir)?")


def mend(workspace: Workspace) -> tuple[list[Path], list[Path]]:
    """Removes the outputs that are damaged, and the damaged objects of DVC's cache.

    Returns:
        The outputs and the objects that were removed.

    Raises:
        PipelineBusyError: If a pipeline is at work.
    """
    with pipeline_lock(workspace):
        # First what may be a link to an object, and would lead nowhere without it.
        outputs = [path for path in workspace.outputs if _is_damaged(workspace, path)]
        for path in outputs:
            _remove(path)
        return outputs, remove_damaged_objects(workspace.root)


def remove_damaged_objects(
    root: Path, stages: Collection[str] | None = None, environment: Mapping[str, str] | None = None
) -> list[Path]:
    """Removes the objects of DVC's cache whose bytes are not those that their names tell.

    Args:
        root: Of a checkout.
        stages: Those whose outputs are looked at, as ``dvc.lock`` names them. None looks at all
            objects: those that no lock names any more come back too, as soon as a step writes the
            same bytes again, since DVC then links to what it has.
        environment: For DVC; by default this process's.

    Returns:
        What was removed.
    """
    cache = objects_folder(root, environment)
    if cache is None:
        return []
    removed = []
    names = _all_names(cache) if stages is None else _names(root, stages, cache)
    for name in dict.fromkeys(names):
        path = object_in(cache, name)
        if path.is_file() and md5_file(path) != name.removesuffix(FOLDER):
            path.unlink()
            removed.append(path)
    return removed


def _is_damaged(workspace: Workspace, path: Path) -> bool:
    try:
        # What is absent, or of another version, is no damage.
        with suppress(MissingOutputError, FileNotFoundError, UnicodeDecodeError):
            if path == workspace.freeze_plan:
                FreezePlan.read(path)
            elif path == workspace.metrics:
                Metrics.read(path)
            elif path == workspace.history:
                read_history(workspace)
            else:
                verify_all(path)
    except DamagedFileError:
        return True
    return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _names(root: Path, stages: Collection[str], cache: Path) -> Iterator[str]:
    """Of all objects that the stages' outputs consist of."""
    for stage, locked in read_lock(root).items():
        for name in locked.outs.values() if stage in stages else ():
            yield name
            if name.endswith(FOLDER):
                with suppress(OSError, ValueError, KeyError, TypeError):
                    yield from [
                        one["md5"] for one in json.loads(object_in(cache, name).read_bytes())
                    ]


def _all_names(cache: Path) -> Iterator[str]:
    for path in cache.glob("??/*"):
        if _NAME.fullmatch(name := path.parent.name + path.name):
            yield name
