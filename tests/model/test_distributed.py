"""Training comes to the same weights on one device, on several, and in several processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graftline.core.workspace import Workspace
from graftline.steps.extract import extract
from graftline.steps.freeze import freeze
from tests.model import small
from tests.model.distributed import PARAMS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ready(assembled: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = small.copied(assembled, tmp_path_factory.mktemp("ready"))
    freeze(workspace, PARAMS)
    extract(workspace, PARAMS)
    return workspace


@pytest.fixture(scope="module")
def alone(ready: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(ready, 1, tmp_path_factory.mktemp("alone"))


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 3])
def test_on_several_devices(devices: int, ready: Workspace, alone: Path, tmp_path: Path) -> None:
    same_weights(trained(ready, devices, tmp_path), alone)


def trained(workspace: Workspace, devices: int, folder: Path) -> Path:
    """What a process that has these many devices comes to."""
    kept = folder / "weights.npz"
    command = [sys.executable, "-m", "tests.model.distributed", str(workspace.root)]
    subprocess.run([*command, str(devices), str(kept)], cwd=ROOT, check=True)
    return kept


def same_weights(one: Path, other: Path) -> None:
    with np.load(one) as found, np.load(other) as wanted:
        assert found.keys() == wanted.keys()
        for name in wanted:
            np.testing.assert_allclose(found[name], wanted[name], atol=1e-5, err_msg=name)
