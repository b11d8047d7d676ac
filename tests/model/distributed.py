"""One training on several devices, or as one of several processes."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from graftline.compute import worker_group
from graftline.compute.groups import end_with_parent, group_of, is_started_again, started_again
from graftline.core.exit_codes import reported
from graftline.core.params import ComputeParams, Params, read_params
from graftline.core.workspace import Workspace
from tests.model import small, taken

CHANGES = {
    "translation": 0.1,
    "rotation_degrees": 10,
    "contrast": 0.2,
    "flip": "horizontal",
    "brightness": 0.1,
    "zoom": 0.1,
    "on_unsafe": "warn",
}
MIXED = {"mixup": 0.3, "class_weights": "balanced", "ema": 0.9}
# The last batch is smaller, and neither two nor three share it equally.
ALL = small.small_params(
    "none", augment=CHANGES, train={"epochs": 1, **MIXED}, tune={"epochs": 1, "batch_size": 13}
)
LONG = small.small_params(
    {"last_blocks": 2},
    train={"epochs": 10, "batch_size": 8, **MIXED},
    tune={"epochs": 8, "batch_size": 8},
)
"""So long that a process can be killed in the middle of it."""


def write_params(workspace: Workspace, params: Params) -> None:
    """Writes ``params.yaml``, which every process of a group reads."""
    with workspace.params_file.open("w", encoding="utf-8") as file:
        YAML().dump(params.model_dump(mode="json", by_alias=True), file)


def main(workspace: Workspace, devices: int, kept: Path) -> None:
    """Trains in a workspace in which all earlier steps have run, and keeps the weights."""
    import tensorflow as tf

    if devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * devices
        tf.config.set_logical_device_configuration(cpu, parts)
    from graftline.steps.train import fit

    fitted = fit(workspace, read_params(workspace.params_file))
    weights = {v.path: v.numpy() for v in fitted.classifier.variables if "seed" not in v.path}
    if (group := group_of(ComputeParams())) is not None:
        kept = kept.with_stem(f"{kept.stem}-{group.index}")
    np.savez(kept, losses=[row["loss"] for row in fitted.history], **weights)


def in_group(workspace: Workspace, *, leads: bool) -> int:
    """Trains as ``graftline train`` does in a group, with a checkpoint after every chunk."""
    if not is_started_again():
        command = [sys.executable, "-m", "tests.model.distributed", *sys.argv[1:]]
        return started_again(command, os.environ)
    end_with_parent()
    from graftline.steps import train as step
    from graftline.training import datasets
    from graftline.training.checkpoints import Checkpoints

    step.Checkpoints = functools.partial(Checkpoints, every_s=0)  # type: ignore[misc,assignment]
    datasets._MAX_STEPS = 2
    params = read_params(workspace.params_file)
    if leads:
        step.train(workspace, params)
    else:
        step.join(workspace, params)
    return 0


def over_workers(root: Path, address: str, arguments: list[str]) -> int:
    """Forms a group with two workers of a scheduler; all of it get the same arguments."""
    params = {"engine": "dask", "address": address, "strategy": "multi_worker", "workers": 2}
    command = ["-m", "tests.model.distributed", str(root), *arguments]
    if os.environ.get("TAKEN_AT_FIRST"):
        worker_group.free_port = taken.port
    return worker_group.lead(root, ComputeParams.model_validate(params), command)


if __name__ == "__main__":
    place = Workspace(Path(sys.argv[1]))
    if sys.argv[2] == "over":
        forming = functools.partial(over_workers, place.root, sys.argv[3], sys.argv[4:])
        sys.exit(reported(forming, debug=False))
    if sys.argv[2] == "together":
        group = group_of(ComputeParams())
        leading = group is not None and group.leads
        sys.exit(reported(lambda: in_group(place, leads=leading), debug=False))
    if sys.argv[2] in ("leads", "joins"):
        sys.exit(reported(lambda: in_group(place, leads=sys.argv[2] == "leads"), debug=False))
    main(place, int(sys.argv[2]), Path(sys.argv[3]))
