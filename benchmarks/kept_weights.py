"""Which weights to keep: the last, or those of the lowest validation loss.

    python -m benchmarks.kept_weights TASK

Reads the workspaces that ``benchmarks.freezing_sweep`` left for the task under ``var/sweep``, or
makes them, and trains there. The test split tells how good both are, as in the sweep.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.freezing_sweep import answered_right, tuned
from benchmarks.freezing_tasks import TASKS, Task
from graftline.data.shards import PackedImages
from graftline.training import trainer
from graftline.training.temperature import Tempered

_STRATEGIES = ("head only", "last 2 blocks", "last 9 blocks", "everything")


class Both(trainer.BestEpoch):
    """What is kept, and besides the last phase's weights with the lowest loss."""

    made: Both

    def __init__(self, variables: Sequence[Any]) -> None:
        super().__init__(variables)
        self.lowest_values: list[NDArray[Any]] = []
        Both.made = self

    def offer(self, epoch: int, phase: int, loss: float, at_best: Tempered) -> None:
        """See :class:`graftline.training.trainer.BestEpoch`."""
        super().offer(epoch, phase, loss, at_best)
        if self.lowest[-1].epoch == epoch:
            self.lowest_values = [variable.numpy().copy() for variable in self._variables]

    def restore_lowest(self) -> None:
        """Puts the weights with the lowest loss into the network."""
        for variable, value in zip(self._variables, self.lowest_values, strict=True):
            variable.assign(value)


def main() -> None:
    """Prints the test accuracy of both by repeat, strategy and number of epochs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kept_weights")
    parser.add_argument("task", choices=[*TASKS])
    parser.add_argument("--trains", nargs="+", default=[*_STRATEGIES], metavar="STRATEGY")
    parser.add_argument("--cut", default="block_13_expand_relu")
    parser.add_argument("--epochs", type=int, nargs="+", help="of tuning; the task's own")
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    trainer.BestEpoch = Both  # type: ignore[misc]
    task = TASKS[options.task]
    table = Table(title=f"{options.task}, cut after {options.cut}: test accuracy")
    for column in ("repeat", "trains", "epochs", "lowest loss", "epoch of it", "kept", "its epoch"):
        table.add_column(column)
    means = []
    for repeat in range(options.repeats):
        for strategy in options.trains:
            # The head's epochs are the task's.
            of_head = strategy == "head only"
            for epochs in [task.epochs] if of_head else options.epochs or [task.epochs]:
                found = _compared(task, repeat, f"{strategy} at {options.cut}", epochs)
                means.append(found[:2])
                shown = task.head_epochs if of_head else epochs
                table.add_row(str(repeat + 1), strategy, str(shown), *_cells(*found))
    table.add_row("mean", "", "", *_cells(*np.mean(means, axis=0)))
    Console().print(table)


def _cells(lowest: float, kept: float, *epochs: int) -> list[str]:
    low_epoch, epoch = map(str, epochs or ("", ""))
    return [f"{100 * lowest:.1f} %", low_epoch, f"{100 * kept:.1f} %", epoch]


def _compared(task: Task, repeat: int, name: str, epochs: int) -> tuple[float, float, int, int]:
    """Test accuracy with the lowest loss and with what is kept, and the epochs, of the phase."""
    workspace, params, fitted = tuned(task, repeat, name, epochs=epochs)
    images = PackedImages.open(workspace.preprocessed)
    kept = answered_right(fitted.classifier, images, "test").mean()
    both = Both.made
    both.restore_lowest()
    lowest = answered_right(fitted.classifier, images, "test").mean()
    before = params.train.epochs if len(both.lowest) > 1 else 0
    return float(lowest), float(kept), both.lowest[-1].epoch - before, fitted.best_epoch - before


if __name__ == "__main__":
    main()
