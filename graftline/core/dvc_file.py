"""Reads ``dvc.yaml`` without DVC: what its stages run, read and write, as it stands there."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

DVC_FILE = "dvc.yaml"


def stages_in(path: Path) -> dict[str, Mapping[str, Any]]:
    """The stages of one file by name, of each ``foreach`` its pattern.

    Nothing where the file is absent or no such file; DVC itself says what is wrong with it.
    """
    try:
        return _stages(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}


# A stage asks several times, and YAML takes its time.
@functools.lru_cache(maxsize=2)
def _stages(text: str) -> dict[str, Mapping[str, Any]]:
    try:
        entries = (YAML(typ="safe", pure=True).load(text).get("stages") or {}).items()
    except (ValueError, YAMLError, AttributeError):
        return {}
    return {
        str(name): stage
        for name, entry in entries
        if isinstance(entry, Mapping) and isinstance(stage := entry.get("do", entry), Mapping)
    }


def texts(value: Any) -> list[str]:
    """One text or a list of them, each by itself or with its options below it."""
    entries = value if isinstance(value, list) else [value]
    return [str(next(iter(one)) if isinstance(one, Mapping) else one) for one in entries if one]


def relative(root: Path, path: PurePosixPath | str) -> str:
    """A path relative to the root, without dots; one that lies elsewhere is absolute."""
    text = os.path.normpath(root / path)
    return os.path.relpath(text, root) if Path(text).is_relative_to(root) else text


def lies_in(name: str, place: str) -> bool:
    """Whether a path is a place, or lies in it."""
    return name == place or name.startswith(f"{place}/")


def is_output(root: Path, path: str) -> bool:
    """Whether a stage of the checkout's ``dvc.yaml`` makes what lies there, or what it lies in."""
    wanted = relative(root, path)
    return any(
        lies_in(wanted, relative(root, PurePosixPath(str(stage.get("wdir") or "")) / out))
        for stage in stages_in(root / DVC_FILE).values()
        for out in texts(stage.get("outs"))
    )
