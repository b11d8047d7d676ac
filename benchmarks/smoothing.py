"""What label smoothing does to tuning: test accuracy with and without it, by task and seed.

    python -m benchmarks.smoothing TASK...

Trains in the workspaces of ``benchmarks.freezing_sweep`` under ``var/sweep``; the test split tells
how good each is, as there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.freezing_sweep import answered, tuned
from benchmarks.freezing_tasks import TASKS, Task
from graftline.data.shards import PackedImages
from graftline.evaluation.calibration import reliability

_BINS = 15


def main() -> None:
    """Prints one line for each task and repeat."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.smoothing")
    parser.add_argument("tasks", nargs="+", choices=[*TASKS], metavar="TASK")
    parser.add_argument("--trains", default="everything")
    parser.add_argument("--cut", default="block_13_expand_relu")
    parser.add_argument("--smoothing", type=float, nargs="+", default=[0.0, 0.1])
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    table = Table(title=f"{options.trains} at {options.cut}: test accuracy, calibration error")
    for column in ("task", "repeat", *(f"smoothing {amount:g}" for amount in options.smoothing)):
        table.add_column(column)
    means = []
    for name in options.tasks:
        for repeat in range(options.repeats):
            plan = f"{options.trains} at {options.cut}"
            found = [_measured(TASKS[name], repeat, plan, one) for one in options.smoothing]
            means.append(found)
            table.add_row(name, str(repeat + 1), *map(_cell, found))
            print(name, repeat + 1, *map(_cell, found), file=sys.stderr, flush=True)
    table.add_row("mean", "", *map(_cell, np.mean(means, axis=0)))
    Console().print(table)


def _cell(found: Sequence[float]) -> str:
    return f"{100 * found[0]:.2f} %, {found[1]:.3f}"


def _measured(task: Task, repeat: int, plan: str, smoothing: float) -> tuple[float, float]:
    """Accuracy on the test split, and the expected calibration error."""
    workspace, _, fitted = tuned(task, repeat, plan, label_smoothing=smoothing)
    answers, right = answered(fitted.classifier, PackedImages.open(workspace.preprocessed), "test")
    calibration = reliability(answers.max(axis=1), right, _BINS)
    return float(right.mean()), calibration.expected_error


if __name__ == "__main__":
    main()
