"""DVC's own records that a kill has cut off in the middle, since DVC writes them in place.

A torn ``dvc.lock`` stops every DVC command, and so does a torn record of who is at work. Neither
holds anything that DVC could not find again: it takes the results of equal inputs from its cache.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from graftline.core.dvc_lock import LOCK_FILE
from graftline.core.workspace import Workspace

_FILE_KEYS = frozenset(
    "path hash md5 etag checksum size nfiles isexec isdir version_id remote cloud files".split()
)
_STAGE_KEYS = frozenset({"cmd", "deps", "params", "outs"})
"""DVC refuses a file with other keys. It takes no kill to make one, but a bit that flips."""
_WRITING_S = 0.5
"""Longer than DVC takes to write either file."""


def put_torn_aside(workspace: Workspace) -> list[str]:
    """Moves torn records of DVC to ``var/torn/``; call it while holding the pipeline.

    Returns:
        Their names, relative to the checkout.
    """
    candidates: tuple[tuple[Path, Callable[[str], bool]], ...] = (
        (workspace.root / LOCK_FILE, _is_lock),
        (workspace.root / ".dvc" / "tmp" / "rwlock", _is_holders),
    )
    found = []
    for path, is_whole in candidates:
        if not _is_torn(path, is_whole):
            continue
        # Half of it may be what a process is writing at this very moment.
        time.sleep(_WRITING_S)
        if not _is_torn(path, is_whole):
            continue
        aside = workspace.var / "torn" / path.name
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, aside)
        found.append(path.relative_to(workspace.root).as_posix())
    return found


def _is_torn(path: Path, is_whole: Callable[[str], bool]) -> bool:
    try:
        return not is_whole(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return True
    except OSError:
        return False


def _is_lock(text: str) -> bool:
    try:
        record = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return False
    if not isinstance(record, dict) or record.get("schema") != "2.0":
        return False
    stages = record.get("stages", {})
    # Cut off between two lines it is YAML still, but of a stage without its outputs.
    return isinstance(stages, dict) and all(
        isinstance(stage, dict)
        and stage.get("cmd")
        and stage.keys() <= _STAGE_KEYS
        and _are_hashed(stage)
        for stage in stages.values()
    )


def _are_hashed(stage: dict[str, object]) -> bool:
    entries = [*_listed(stage, "deps"), *_listed(stage, "outs")]
    return all(
        isinstance(entry, dict) and {"path", "hash"} <= entry.keys() <= _FILE_KEYS
        for entry in entries
    )


def _listed(stage: dict[str, object], name: str) -> list[object]:
    entries = stage.get(name, [])
    return entries if isinstance(entries, list) else [entries]


def _is_holders(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
