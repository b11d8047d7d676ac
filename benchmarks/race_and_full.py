"""What the race says of tuning, and what full trainings do on the test split.

    python -m benchmarks.race_and_full flowers-10 --budget 3.6 --repeats 6

For each repeat of a task of ``benchmarks.freezing_sweep``: the images that head only and everything
get right in the last round of a race with this budget, and the test accuracy of both trained to
their end. What is finished is kept under ``var/sweep``.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.freezing_grid import of_name
from benchmarks.freezing_sweep import prepared, trained, workspace_of
from benchmarks.freezing_tasks import TASKS, Task
from graftline.artifacts import FreezePlan
from graftline.freeze import freeze
from graftline.storage import replacing_directory
from graftline.workspace import Workspace

_PLANS = ("head only", "everything")


def main(arguments: Sequence[str]) -> int:
    """Prints both by repeat."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race_and_full")
    parser.add_argument("task", choices=[*TASKS])
    parser.add_argument("--budget", type=float, default=1.8)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    table = Table(title=f"{options.task}, freeze.budget {options.budget:g}")
    heads = [f"{kind}, {plan}" for kind in ("race", "test") for plan in _PLANS]
    for column in ("repeat", "held out", "cut", *heads):
        table.add_column(column)
    for repeat in range(options.repeats):
        table.add_row(str(repeat + 1), *_compared(TASKS[options.task], repeat, options.budget))
    Console().print(table)
    return 0


def _compared(task: Task, repeat: int, budget: float) -> list[str]:
    workspace = workspace_of(task, repeat)
    params = task.params(workspace.root / "images.npz", repeat)
    assembled = prepared(task, repeat, workspace, params)
    root = workspace.root.with_name(f"{workspace.root.name}-budget-{budget:g}")
    if not root.exists():
        # In one move: half a copy would be taken for a whole one by the next call.
        with replacing_directory(root) as temporary:
            shutil.copytree(workspace.root, temporary, symlinks=True, dirs_exist_ok=True)
    with_budget = params.freeze.model_copy(update={"budget": budget})
    race = Workspace(root)
    freeze(race, params.model_copy(update={"freeze": with_budget}))
    cut = FreezePlan.read(race.freeze_plan).cut
    with (race.freezing_report / "race.csv").open(encoding="utf-8") as file:
        rows = {row["candidate"]: row for row in csv.DictReader(file)}
    names = [f"{plan} at {cut}" for plan in _PLANS]
    found = [rows[name]["right"] if name in rows else "-" for name in names]
    for name in names:
        result = trained(workspace, params, of_name(assembled, name))
        found.append(f"{result['right'] / result['tested']:.1%}")
    return [next(iter(rows.values()))["held_out"], cut, *found]


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main(sys.argv[1:]))
