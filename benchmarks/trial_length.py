"""How the length of a trial decides what it says: python -m benchmarks.trial_length TASK.

Reads the workspace that ``benchmarks.freezing_sweep`` left for the task under ``var/sweep``.
"""

from __future__ import annotations

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.freezing_sweep import workspace_of
from benchmarks.freezing_tasks import TASKS
from graftline.core.params import LastBlocks
from graftline.core.records import Assembled
from graftline.data.shards import PackedImages
from graftline.network.freeze_plans import Strategy
from graftline.selection.candidates import make_candidate
from graftline.selection.folds import race_folds
from graftline.selection.trainer import CandidateTrainer
from graftline.steps.freeze import choice_settings

_CUT = "block_13_expand_relu"
_PASSES = (1, 2, 4, 8)


def main() -> None:
    """Prints held-out accuracy by strategy and length."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trial_length")
    parser.add_argument("task", choices=[*TASKS])
    parser.add_argument("--folds", type=int, default=3)
    options = parser.parse_args()
    workspace = workspace_of(TASKS[options.task], 0)
    params = TASKS[options.task].params(workspace.root / "images.npz")
    folds = race_folds(PackedImages.open(workspace.preprocessed), params.seed)[: options.folds]
    assembled = Assembled.read_in(workspace)
    trainer = CandidateTrainer(workspace, choice_settings(params))
    strategies: tuple[Strategy, ...] = ("all", LastBlocks(last_blocks=5), "none")
    table = Table(title=f"{options.task}, cut after {_CUT}, {len(folds)} folds")
    table.add_column("passes over the training images", justify="right")
    for strategy in strategies:
        table.add_column(make_candidate(assembled, strategy, _CUT).name.partition(" at ")[0])
    for passes in _PASSES:
        cells = []
        for strategy in strategies:
            candidate = make_candidate(assembled, strategy, _CUT)
            trials = [
                trainer.run(candidate, passes * len(fold.train), fold, params.seed)
                for fold in folds
            ]
            right = np.concatenate([trial.right for trial in trials])
            cells.append(f"{100 * right.mean():.1f} %")
        table.add_row(str(passes), *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
