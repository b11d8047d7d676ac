"""Runs one step from the command line, and says in a line what it did."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from rich.console import Console, RenderableType

from graftline.compute.groups import (
    end_with_parent,
    group_of,
    is_of_workers,
    is_started_again,
    started_again,
)
from graftline.core.environment import HELD_BY_VARIABLE
from graftline.core.params import read_params
from graftline.core.startup import import_keras
from graftline.core.workspace import Workspace
from graftline.operations.stage_runner import run_stage

STEP_HELP = {
    "load": "read a source, check it, split it",
    "preprocess": "shrink every image to the network's size and pack it",
    "assemble": "base weights, backbone up to the cut, fresh head",
    "freeze": "turn freeze.strategy into a plan of which layers train",
    "extract": "run the frozen part once per image and keep its outputs",
    "train": "train what is not frozen",
    "evaluate": "measure the whole test split through the exported model",
    "export": "bring the model into other formats, each held against the original",
}


def run_step(workspace: Workspace, options: argparse.Namespace) -> int:
    """Runs the step ``options.stage`` as DVC does; see :func:`run_stage`."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("graftline").setLevel(logging.INFO)
    # What cannot be fetched in the end is an error of ours, which says more.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    if options.stage == "train" and (code := _in_group(workspace, options)) is not None:
        return code
    record = run_stage(options.stage, workspace)
    if HELD_BY_VARIABLE in os.environ:
        # The flow tells it in its own words and tables, and a log says each thing once.
        return 0
    console = Console(soft_wrap=True, highlight=False)
    if options.stage == "freeze":
        for name in ("verdict.md", "table.md"):
            path = workspace.freezing_report / name
            if path.is_file():
                text = path.read_text(encoding="utf-8")
                console.print(_rendered(text) if console.is_terminal else text)
    if options.stage == "export" and record.exported:
        from graftline.formats.speeds import read_speeds
        from graftline.formats.table import terminal_table

        console.print(terminal_table(record, read_speeds(workspace, record)))
    console.print(describe(options.stage, record), markup=False)
    # The last stage that is tracked.
    if options.stage == "evaluate":
        from graftline.registry.tracking import last_run

        if (run := last_run(workspace)) and run.warning:
            console.print(run.warning, markup=False)
    return 0


def _in_group(workspace: Workspace, options: argparse.Namespace) -> int | None:
    """Trains as one of a group of processes; None where this one is to run the stage itself."""
    compute = read_params(workspace.params_file).compute
    debug = ["--debug"] if options.debug else []
    command = ["-m", "graftline", "-C", str(workspace.root), *debug, "train"]
    if is_of_workers(compute):
        from graftline.compute.worker_group import lead

        return lead(workspace.root, compute, command)
    if (group := group_of(compute)) is None:
        return None
    if not is_started_again():
        return started_again([sys.executable, *command], os.environ)
    end_with_parent()
    if group.leads:
        return None
    import_keras()
    from graftline.steps.train import join

    join(workspace, read_params(workspace.params_file))
    done = f"train: process {group.index + 1} of {len(group.addresses)} has done its part"
    Console(soft_wrap=True, highlight=False).print(done, markup=False)
    return 0


def _rendered(markdown: str) -> RenderableType:
    # A seventh of this module's import, and needed by one command in a terminal.
    from rich.markdown import Markdown

    return Markdown(markdown)


def describe(stage: str, record: object) -> str:
    """One line on what a step did."""
    from graftline.core.summaries import sentence

    return f"{stage}: {sentence(record)}"
