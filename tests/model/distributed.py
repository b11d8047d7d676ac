"""One training in a process of its own, on as many devices as are asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from graftline.core.workspace import Workspace
from tests.model import small

CHANGES = {
    "translation": 0.1,
    "rotation_degrees": 10,
    "contrast": 0.2,
    "flip": "horizontal",
    "brightness": 0.1,
    "zoom": 0.1,
    "on_unsafe": "warn",
}
# 117 training images: the last batch has 13 of 16, and three replicas share it unequally.
PARAMS = small.small_params(
    "none",
    augment=CHANGES,
    train={"epochs": 1, "mixup": 0.3, "class_weights": "balanced", "ema": 0.9},
    tune={"epochs": 1, "batch_size": 13},
)


def main(root: Path, devices: int, kept: Path) -> None:
    """Trains in a workspace in which all earlier steps have run, and keeps the weights."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(cpu, halves)
    from graftline.steps.train import fit

    fitted = fit(Workspace(root), PARAMS)
    weights = {v.path: v.numpy() for v in fitted.classifier.variables if "seed" not in v.path}
    np.savez(kept, losses=[row["loss"] for row in fitted.history], **weights)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
