"""A small network on small images, taken through the real steps."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.params import Params, params_from_record
from graftline.core.records import Trained
from graftline.core.workspace import Workspace
from graftline.network.keras_io import load_model
from graftline.steps.assemble import assemble
from graftline.steps.extract import extract
from graftline.steps.freeze import freeze
from graftline.steps.load import load
from graftline.steps.preprocess import preprocess
from graftline.steps.train import train

CLASSES = ("0", "1", "2")
SIZE_PX = 32
IMAGE_PX = 20


def pattern(label: int, height: int, width: int, channels: int, seed: int) -> NDArray[np.uint8]:
    """An image with lying, upright or slanting stripes, by its label, and some noise."""
    random = np.random.default_rng(seed)
    down, right = np.mgrid[:height, :width]
    stripes = np.sin((down, right, down + right)[label] * 1.2 + random.uniform(0, 6.3))
    noisy = 128 + 70 * stripes + random.normal(0, 25, (height, width))
    grey = np.clip(noisy, 0, 255).astype(np.uint8)[..., None]
    tint = random.integers(60, 100, channels) / 100
    return (grey * tint).astype(np.uint8)


def write_source(root: Path, images: int = 180) -> None:
    """Writes ``images.npz``: grey images of one size, the classes in turn."""
    labels = np.arange(images) % len(CLASSES)
    pixels = [pattern(int(label), IMAGE_PX, IMAGE_PX, 1, seed) for seed, label in enumerate(labels)]
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / "images.npz", images=np.stack(pixels), labels=labels)


def small_params(
    strategy: Any = "all", source: tuple[str, str] = ("npz", "images.npz"), **sections: Any
) -> Params:
    """Parameters of a network that is cut after its third block and has random weights."""
    kind, path = source
    record = {
        "seed": sections.get("seed", 3),
        "data": {"source": kind, "path": path},
        "preprocess": {"size_px": SIZE_PX},
        "backbone": {"weights": "random", "alpha": 0.35, "cut": "block_2_add"},
        "head": {"units": [16], "dropout": 0.2, **sections.get("head", {})},
        "freeze": {"strategy": strategy, **sections.get("freeze", {})},
        "augment": sections.get("augment", {}),
        "tune": sections.get("tune", {}),
        "train": {"epochs": 6, "batch_size": 16, "learning_rate": 0.01} | sections.get("train", {}),
    }
    return params_from_record(record, "here")


def prepare(workspace: Workspace, params: Params) -> None:
    """Runs all steps before ``freeze``."""
    _as_in_a_process_of_its_own()
    load(workspace, params)
    preprocess(workspace, params)
    assemble(workspace, params)


def finish(workspace: Workspace, params: Params) -> Trained:
    """Runs ``freeze``, ``extract`` and ``train``."""
    _as_in_a_process_of_its_own()
    freeze(workspace, params)
    extract(workspace, params)
    return train(workspace, params)


def copied(workspace: Workspace, root: Path) -> Workspace:
    """A workspace of one's own with the same outputs."""
    shutil.copytree(workspace.root, root, dirs_exist_ok=True)
    return Workspace(root)


def untrained(workspace: Workspace) -> Any:
    """The network as ``assemble`` wrote it."""
    return load_model(workspace.assembled / "model.keras")


def trained(workspace: Workspace) -> Any:
    """The network as ``train`` wrote it."""
    return load_model(workspace.trained / "model.keras")


def answers(model: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a Keras model gives for images of one shape, in inference mode."""
    return np.asarray(model(images, training=False))


def _as_in_a_process_of_its_own() -> None:
    # Keras numbers its nameless layers as they are made, and the names go into the files.
    import keras

    keras.utils.clear_session(free_memory=False)
