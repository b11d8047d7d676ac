"""Which weights of tuning to keep: the last, or those of the lowest validation loss.

    python -m benchmarks.kept_weights TASK

Reads the workspace that ``benchmarks.freezing_sweep`` left for the task under ``var/sweep``, and
trains there. The test split tells how good both are, as in the sweep.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.freezing_grid import of_name
from benchmarks.freezing_sweep import answered_right, workspace_of
from benchmarks.freezing_tasks import TASKS
from graftline import fitting
from graftline.artifacts import Assembled
from graftline.assemble import RECORD
from graftline.extract import extract
from graftline.packed import PackedImages
from graftline.params import Params
from graftline.train import fit
from graftline.workspace import Workspace

_CUT = "block_13_expand_relu"
_STRATEGIES = ("last 2 blocks", "last 9 blocks", "everything")


class Both(fitting.Best):
    """What is kept, and besides the tuned weights with the lowest loss."""

    made: Both

    def __init__(self, variables: Sequence[Any]) -> None:
        super().__init__(variables)
        self.lowest_values: list[NDArray[Any]] = []
        Both.made = self

    def offer(self, epoch: int, phase: int, losses: NDArray[np.float64]) -> None:
        """See :class:`graftline.fitting.Best`."""
        super().offer(epoch, phase, losses)
        if phase > 1 and self.lowest[-1].epoch == epoch:
            self.lowest_values = [variable.numpy().copy() for variable in self._variables]

    def restore_lowest(self) -> None:
        """Puts the weights with the lowest loss into the network."""
        for variable, value in zip(self._variables, self.lowest_values, strict=True):
            variable.assign(value)


def main(arguments: Sequence[str]) -> int:
    """Prints the test accuracy of both by strategy and number of steps."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kept_weights")
    parser.add_argument("task", choices=[*TASKS])
    parser.add_argument("--epochs", type=int, nargs="+", default=[10, 20, 40])
    options = parser.parse_args(arguments)
    fitting.Best = Both  # type: ignore[misc]
    workspace = workspace_of(TASKS[options.task], 0)
    params = TASKS[options.task].params(workspace.root / "images.npz")
    table = Table(title=f"{options.task}, cut after {_CUT}: test accuracy")
    for column in ("trains", "epochs", "lowest loss", "epoch of it", "kept", "epoch of it"):
        table.add_column(column)
    means = []
    for strategy in _STRATEGIES:
        for epochs in options.epochs:
            lowest, low_epoch, kept, epoch = _compared(workspace, params, strategy, epochs)
            means.append((lowest, kept))
            table.add_row(
                strategy,
                str(epochs),
                f"{100 * lowest:.1f} %",
                str(low_epoch),
                f"{100 * kept:.1f} %",
                str(epoch),
            )
    lowest, kept = np.mean(means, axis=0)
    table.add_row("mean", "", f"{100 * lowest:.1f} %", "", f"{100 * kept:.1f} %", "")
    Console().print(table)
    return 0


def _compared(
    workspace: Workspace, params: Params, strategy: str, epochs: int
) -> tuple[float, int, float, int]:
    """Test accuracy and epoch of tuning, with the lowest loss and of what is kept."""
    wanted = params.model_copy(update={"tune": params.tune.model_copy(update={"epochs": epochs})})
    assembled = Assembled.read(workspace.assembled / RECORD)
    of_name(assembled, f"{strategy} at {_CUT}").plan.write(workspace.freeze_plan)
    extract(workspace, wanted)
    fitted = fit(workspace, wanted)
    images = PackedImages.open(workspace.preprocessed)
    kept = answered_right(fitted.graft, images, "test").mean()
    both = Both.made
    both.restore_lowest()
    lowest = answered_right(fitted.graft, images, "test").mean()
    head = params.train.epochs
    return float(lowest), both.lowest[-1].epoch - head, float(kept), fitted.best_epoch - head


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main(sys.argv[1:]))
