"""Runs one step as a DVC stage does: locked and tracked."""

from __future__ import annotations

import importlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from graftline.compute import working_on
from graftline.core import fresh_start
from graftline.core.backbone_cuts import check_cut
from graftline.core.code_lock import refuse_other_code
from graftline.core.environment import RUN_ID_VARIABLE
from graftline.core.errors import GraftlineError, from_system
from graftline.core.files import scratch_folder
from graftline.core.installing import require
from graftline.core.locks import pipeline_lock, stage_lock
from graftline.core.params import Params, read_params
from graftline.core.repository import check_own_git
from graftline.core.stage_params import refuse_absent, refuse_changed
from graftline.core.startup import import_keras
from graftline.core.timings import Timings
from graftline.core.workspace import Workspace
from graftline.operations import finished_training
from graftline.operations.borrowed_params import refuse_abandoned
from graftline.operations.dvc_exp_guard import refuse_after_interrupted
from graftline.operations.earlier_results import TAKEN, EarlierResults, key_of

_log = logging.getLogger(__name__)
TRACKED = ("train", "evaluate")
"""The stages that write to the tracked run while they work."""
_HEAVY = {
    "preprocess": ("PIL.Image", "pyarrow.parquet"),
    "extract": ("ai_edge_litert.interpreter", "pyarrow.parquet"),
    "evaluate": ("ai_edge_litert.interpreter", "matplotlib.figure", "pyarrow.parquet"),
}
"""What a step imports where it needs it, and what takes time to import."""


def run_stage(stage: str, workspace: Workspace) -> Any:
    """Runs one step with the workspace's ``params.yaml``.

    Returns:
        The step's record of :mod:`graftline.core.records`.

    Raises:
        GraftlineError: Whatever the step raises.
    """
    timings = Timings()
    started_s = fresh_start.begun_s(time.monotonic())
    try:
        check_own_git(workspace.root)
        refuse_after_interrupted(workspace)
        with pipeline_lock(workspace), stage_lock(workspace, stage), _scratch():
            refuse_abandoned(workspace)
            refuse_other_code(workspace, stage)
            params = read_params(workspace.params_file)
            if "DVC_STAGE" in os.environ:
                refuse_absent(workspace, params)
            check_cut(params.backbone)
            # Told by the first step, and not by the last one after hours of training.
            if "onnx" in params.export.formats:
                require("onnx", "the format onnx", "export.formats: onnx")
            if params.compute.engine == "dask":
                require("cluster", "the engine dask", "compute.engine: dask")
            finished_training.forget_if_recorded(workspace)
            earlier = EarlierResults(workspace, stage, params)
            parts_key = _parts_key(workspace, stage, params)
            with working_on(workspace.root, params.compute, stage, parts_key):
                record = _run(stage, workspace, params, timings, earlier)
            # Outside the outputs, which hold nothing that changes between two equal runs.
            timings.write(workspace, stage, time.monotonic() - started_s)
            _refuse_changed(workspace, stage, params)
            earlier.note()
            if stage == "train":
                # The last that is done: what fails before it costs no training.
                finished_training.note_finished(workspace)
            return record
    except GraftlineError:
        raise
    except fresh_start.OvergrownError:
        pass
    except Exception as error:
        if (known := from_system(error, workspace.root)) is not None:
            raise known from error
        raise
    # By now the scratch folder is given back; the locks are kept for this process.
    fresh_start.start_anew(started_s)


def _parts_key(workspace: Workspace, stage: str, params: Params) -> str | None:
    # Threads leave no parts.
    return key_of(workspace, stage, params) if params.compute.engine == "dask" else None


@contextmanager
def _scratch() -> Iterator[None]:
    """Has temporary files lie in a folder that the next start finds by its name after a kill.

    TensorFlow writes a module for each function that it traces, and removes them at exit alone.
    """
    with scratch_folder() as folder:
        before, tempfile.tempdir = tempfile.tempdir, str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before


def _run(
    stage: str, workspace: Workspace, params: Params, timings: Timings, earlier: EarlierResults
) -> Any:
    with timings.span("restore"):
        restored = earlier.take()
    if restored is not None:
        _log.info(TAKEN)

    def work(**more: Any) -> Any:
        if restored is not None:
            return restored
        step = _imported(stage, params, timings)
        with timings.span("work"):
            return step(workspace, params, **more)

    # A flow completes its run from the outputs.
    if stage not in TRACKED or (restored is not None and RUN_ID_VARIABLE in os.environ):
        return work()
    from graftline.registry.tracking import stage_recorder

    # The recorder's own process imports MLflow while this one imports TensorFlow.
    with stage_recorder(workspace, params, stage) as recorder:
        if stage == "train":
            record = work(on_epoch=recorder.epoch, keep_checkpoint=True)
        else:
            record = work()
        # Before the run is told that the stage has ended well.
        _refuse_changed(workspace, stage, params)
        return record


def _refuse_changed(workspace: Workspace, stage: str, params: Params) -> None:
    # After the stage DVC reads the file once more, and writes down what stands there then.
    if "DVC_STAGE" in os.environ:
        refuse_changed(workspace, stage, params)


def _imported(stage: str, params: Params, timings: Timings) -> Callable[..., Any]:
    with timings.span("import"):
        if _needs_keras(stage, params):
            import_keras()
        for module in _HEAVY.get(stage, ()):
            importlib.import_module(module)
        step: Callable[..., Any] = getattr(
            importlib.import_module(f"graftline.steps.{stage}"), stage
        )
    return step


def _needs_keras(stage: str, params: Params) -> bool:
    if stage == "freeze":
        return params.freeze.strategy == "auto"
    if stage == "export":
        return bool(params.export.formats)
    return stage in ("assemble", "train")
