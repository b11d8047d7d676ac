"""Runs one step as a DVC stage does: locked, tracked, and with its error left for the caller."""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graftline.environment import ERROR_FILE_VARIABLE
from graftline.errors import GraftlineError
from graftline.lock import pipeline_lock, stage_lock
from graftline.params import Params, read_params
from graftline.storage import write_text
from graftline.workspace import Workspace

STAGES = ("load", "preprocess", "assemble", "freeze", "extract", "train", "evaluate")
TRACKED = ("train", "evaluate")
"""The stages that write to the tracked run while they work."""


def run_stage(stage: str, workspace: Workspace) -> Any:
    """Runs one step with the workspace's ``params.yaml``.

    Returns:
        The step's record of :mod:`graftline.artifacts`.

    Raises:
        GraftlineError: Whatever the step raises; it is also written to the file that the
            environment variable ``GRAFTLINE_ERROR_FILE`` names.
    """
    try:
        params = read_params(workspace.params_file)
        with pipeline_lock(workspace), stage_lock(workspace, stage):
            started_s = time.monotonic()
            record = _run(stage, workspace, params)
            _note_seconds(workspace, stage, time.monotonic() - started_s)
            return record
    except GraftlineError as error:
        leave_error(error)
        raise


def leave_error(error: GraftlineError) -> None:
    """Writes an error where the process that started this stage looks for it."""
    if target := os.environ.get(ERROR_FILE_VARIABLE):
        write_text(Path(target), error.to_json())


def _run(stage: str, workspace: Workspace, params: Params) -> Any:
    step: Callable[..., Any] = getattr(importlib.import_module(f"graftline.{stage}"), stage)
    if stage not in TRACKED:
        return step(workspace, params)
    from graftline.tracking import stage_recorder

    with stage_recorder(workspace, params, stage) as recorder:
        if stage == "train":
            return step(workspace, params, on_epoch=recorder.epoch)
        return step(workspace, params)


def _note_seconds(workspace: Workspace, stage: str, seconds: float) -> None:
    # Outside the outputs, which hold nothing that changes between two equal runs.
    folder = workspace.var / "timings"
    write_text(folder / f"{stage}.json", json.dumps({"seconds": round(seconds, 3)}) + "\n")
