"""``graftline lock`` and ``graftline schema``: the files that are written from the code."""

from __future__ import annotations

import json

from rich.console import Console

from graftline.core.code_lock import CODE_LOCK, lock_code
from graftline.core.files import write_text
from graftline.core.locks import pipeline_lock
from graftline.core.params import json_schema
from graftline.core.workspace import Workspace


def write_lock(workspace: Workspace) -> int:
    """Runs ``graftline lock``; returns the exit code 0."""
    # What is at work must not find another digest at its end than at its start.
    with pipeline_lock(workspace):
        changed = lock_code(workspace)
    said = f"the code of {', '.join(changed)} has changed" if changed else "current"
    Console(soft_wrap=True, highlight=False).print(f"{CODE_LOCK}: {said}")
    return 0


def write_schema(workspace: Workspace) -> int:
    """Runs ``graftline schema``; returns the exit code 0."""
    write_text(workspace.root / "params.schema.json", json.dumps(json_schema(), indent=2) + "\n")
    return 0
