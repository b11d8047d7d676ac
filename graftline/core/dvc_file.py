"""Reads ``dvc.yaml`` without DVC: what its stages run, read and write, as it stands there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

DVC_FILE = "dvc.yaml"


def stages_in(path: Path) -> Iterator[Mapping[str, Any]]:
    """The stages of one file, of each ``foreach`` its pattern; DVC says what is wrong with it."""
    try:
        record = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        entries = list((record.get("stages") or {}).values())
    except (OSError, ValueError, YAMLError, AttributeError):
        return
    for entry in entries:
        if isinstance(entry, Mapping) and isinstance(stage := entry.get("do", entry), Mapping):
            yield stage


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
        for stage in stages_in(root / DVC_FILE)
        for out in texts(stage.get("outs"))
    )
