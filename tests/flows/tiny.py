"""A committed copy of this checkout with a tiny network and a hundred images."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from graftline.core.params import ComputeParams
from graftline.core.workspace import Workspace

CHECKOUT = Path(__file__).resolve().parents[2]
COMMIT = ("git", "-c", "user.name=Tests", "-c", "user.email=tests@localhost", "commit", "-qm")


def sh(root: Path, *command: str) -> str:
    """Runs a command in a checkout and returns what it printed."""
    folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join((folder, os.environ["PATH"]))}
    ended = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def write_images(path: Path) -> None:
    """Three classes that differ by where the light is, 40 images each."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (120, 20, 20), dtype=np.uint8)
    labels = np.arange(120) % 3
    for image, label in zip(images, labels, strict=True):
        image[:, label * 7 : label * 7 + 6] += 150
    np.savez(path, images=images, labels=labels)


def copy_tracked(root: Path) -> None:
    """Copies the checkout's files that git does not ignore, but for ``dvc.lock``."""
    tracked = sh(CHECKOUT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, tracked.split("\0")):
        path = CHECKOUT / name
        if name != "dvc.lock" and (path.is_file() or path.is_symlink()):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            # The examples are links into the checkout, and stay so.
            shutil.copy(path, root / name, follow_symlinks=False)


def make(folder: Path) -> Workspace:
    """Copies what is tracked, writes small parameters and images, and commits."""
    root = folder / "checkout"
    copy_tracked(root)
    make_small(Workspace(root), folder / "images.npz")
    for command in (("git", "init", "-q"), ("git", "add", "-A"), (*COMMIT, "start")):
        sh(root, *command)
    return Workspace(root)


def make_small(workspace: Workspace, images: Path) -> None:
    """Writes images, and parameters of a tiny network for them."""
    write_images(images)
    record = {
        "seed": 3,
        "data": {"source": "npz", "path": str(images)},
        "preprocess": {"size_px": 32},
        "backbone": {"alpha": 0.35, "weights": "random", "cut": "block_6_expand_relu"},
        "head": {"units": [8], "dropout": 0.1},
        "freeze": {"strategy": "all"},
        "augment": {},
        "extract": {},
        "train": {"epochs": 2, "learning_rate": 0.01},
        "tune": {},
        "evaluate": {"worst_mistakes": 4},
        "export": {},
        "register": {"model_name": "tiny"},
        "promote": {"min_accuracy": 0.3},
        "notify": {},
        "compute": ComputeParams().model_dump(mode="json"),
    }
    # JSON is YAML too.
    workspace.params_file.write_text(json.dumps(record, indent=2))
