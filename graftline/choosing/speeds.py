"""Images per second by depth: for people, and outside all outputs, since no two runs agree."""

from __future__ import annotations

import json
from pathlib import Path

from graftline.storage import write_text
from graftline.workspace import Workspace


def read_speeds(workspace: Workspace) -> dict[str, float]:
    """Images per second by layer, as this machine was last measured; empty if it was not."""
    try:
        record = json.loads(_path(workspace).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {str(name): float(value) for name, value in record.items()}


def write_speeds(workspace: Workspace, speeds: dict[str, float]) -> None:
    """Keeps them under ``var/``."""
    rounded = {name: round(value, 1) for name, value in speeds.items()}
    write_text(_path(workspace), json.dumps(rounded, indent=2) + "\n")


def _path(workspace: Workspace) -> Path:
    return workspace.var / "depth_speeds.json"
