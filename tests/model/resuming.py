"""One training in a process of its own, with a checkpoint after every chunk."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from graftline.core.workspace import Workspace
from graftline.steps import train as step
from graftline.steps.train import train
from graftline.training import datasets
from graftline.training.checkpoints import Checkpoints
from tests.model import small

PARAMS = small.small_params(
    {"last_blocks": 2},
    train={"epochs": 12, "batch_size": 8, "ema": 0.9, "mixup": 0.2},
    tune={"epochs": 6, "batch_size": 8, "gradual_unfreezing": True},
)
LONG = small.small_params(
    {"last_blocks": 2},
    train={"epochs": 30, "batch_size": 8, "ema": 0.9, "mixup": 0.2},
    tune={"epochs": 24, "batch_size": 8, "gradual_unfreezing": True},
)
"""So long that each of many lives gets only a little further."""


def main(root: Path) -> None:
    """Trains in a workspace in which all earlier steps have run."""
    step.Checkpoints = functools.partial(Checkpoints, every_s=0)  # type: ignore[misc,assignment]
    # Many small chunks, for many places at which to be killed.
    datasets._MAX_STEPS = 2
    train(Workspace(root), LONG)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
