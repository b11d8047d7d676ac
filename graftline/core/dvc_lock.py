"""Reads ``dvc.lock``: the parameters of each stage, and the files that it read and wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from graftline.core.workspace import PARAMS_FILE

LOCK_FILE = "dvc.lock"


@dataclass(frozen=True)
class LockedStage:
    """One stage, as it ran last."""

    params: Mapping[str, Any]
    """Values by dotted key; a whole section stands under its own key."""
    deps: Mapping[str, str]
    """Hashes by path."""
    outs: Mapping[str, str]
    """Hashes by path."""


def read_lock(root: Path) -> dict[str, LockedStage]:
    """The stages of ``dvc.lock``; none where it is absent or no such file."""
    try:
        return _stages((root / LOCK_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def read_locked_stage(root: Path, name: str) -> LockedStage | None:
    """One stage of ``dvc.lock``; None where it is not there.

    Only the lines of that stage are parsed: a flow asks after each stage, and all of them take a
    tenth of a second.
    """
    try:
        text = (root / LOCK_FILE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    lines = re.search(rf"^  {re.escape(name)}:\n(?:    .*\n)+", text, re.MULTILINE)
    return _stages(f"stages:\n{lines[0]}" if lines else text).get(name)


def reads_what_others_wrote(stages: Mapping[str, LockedStage], name: str) -> bool:
    """Whether a stage's last results are those of the other stages' last outputs."""
    if name not in stages:
        return False
    written = {path: digest for stage in stages.values() for path, digest in stage.outs.items()}
    read = stages[name].deps
    return all(written[path] == digest for path, digest in read.items() if path in written)


def _stages(text: str) -> dict[str, LockedStage]:
    try:
        stages = YAML(typ="safe", pure=True).load(text)["stages"].items()
        return {name: _stage(entry) for name, entry in stages if isinstance(entry, dict)}
    except (ValueError, YAMLError, KeyError, TypeError, AttributeError):
        return {}


def _stage(entry: Mapping[str, Any]) -> LockedStage:
    return LockedStage(
        params=dict((entry.get("params") or {}).get(PARAMS_FILE) or {}),
        deps=_hashes(entry.get("deps")),
        outs=_hashes(entry.get("outs")),
    )


def _hashes(entries: Any) -> dict[str, str]:
    return {str(one["path"]): str(one.get("md5", "")) for one in entries or ()}
