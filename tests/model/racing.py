"""One choice of ``auto`` in a process of its own, which starts anew after so many networks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from graftline.core import fresh_start
from graftline.core.params import Params
from graftline.core.workspace import Workspace
from graftline.operations.stage_runner import run_stage
from graftline.selection import choice
from tests.model import small

BEGINS = "a process begins"


def params() -> Params:
    """Parameters with which several networks race."""
    made = small.small_params("auto", train={"epochs": 2}, tune={"epochs": 2})
    return made.model_copy(update={"freeze": made.freeze.model_copy(update={"budget": 2.0})})


def main(root: Path, networks: int) -> None:
    """Chooses in a workspace in which all earlier steps have run.

    Args:
        root: Of the workspace.
        networks: After so many the process starts anew; 0 for never.
    """
    sys.stdout.write(f"{BEGINS}\n")
    sys.stdout.flush()
    if networks:
        fresh_start._LARGE_BYTES, fresh_start._LEAST_DONE = 0, networks
    fresh_start.allow()
    # Speeds need a conversion for each depth, and the choice does not read them.
    choice.images_per_second = invented_speeds
    run_stage("freeze", Workspace(root))


def invented_speeds(*arguments: Any) -> dict[str, float]:
    """In the place of measured ones, which differ from run to run."""
    return {depth.layer: 1e9 / depth.multiply_adds for depth in arguments[2]}


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
