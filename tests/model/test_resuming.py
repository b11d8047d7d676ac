"""A killed training goes on where it stood, and ends with the bytes of an undisturbed one."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from graftline import train as step
from graftline.checkpoints import Checkpoints, Standing
from graftline.extract import extract
from graftline.freeze import freeze
from graftline.loop import Loop
from graftline.train import train
from graftline.workspace import Workspace
from tests.model import small
from tests.model.resuming import PARAMS

ROOT = Path(__file__).resolve().parents[2]
KILLS = 24


class Killed(BaseException):
    """Stands for a SIGKILL: nothing below catches it."""


@pytest.fixture(scope="module")
def ready(assembled: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = small.copied(assembled, tmp_path_factory.mktemp("ready"))
    keras.utils.clear_session(free_memory=False)
    freeze(workspace, PARAMS)
    extract(workspace, PARAMS)
    return workspace


@pytest.fixture(scope="module")
def undisturbed(ready: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = small.copied(ready, tmp_path_factory.mktemp("undisturbed"))
    train(workspace, PARAMS)
    return workspace


@pytest.fixture
def every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "Checkpoints", lambda path, key: Checkpoints(path, key, every_s=0))


def same_bytes(one: Workspace, other: Workspace) -> None:
    files = [path.relative_to(one.root) for path in sorted(one.trained.iterdir())]
    assert len(files) == 4
    for file in [*files, one.history.relative_to(one.root)]:
        assert (one.root / file).read_bytes() == (other.root / file).read_bytes(), file


def stopping_after(chunks: int, training: Callable[..., object]) -> Callable[..., object]:
    left = iter(range(chunks))

    def train_on(self: Loop, *args: object) -> object:
        if next(left, None) is None:
            raise Killed
        return training(self, *args)

    return train_on


@pytest.mark.usefixtures("every_chunk")
def test_it_goes_on_from_any_chunk_of_either_phase(
    ready: Workspace,
    undisturbed: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workspace = small.copied(ready, tmp_path)
    training = Loop.train_on
    seen: list[str] = []
    saving = Checkpoints.save

    def noting(self: Checkpoints, standing: Standing) -> None:
        seen.append(f"{standing.phase} {'in an epoch' if standing.chunks else 'between two'}")
        saving(self, standing)

    monkeypatch.setattr(Checkpoints, "save", noting)
    # Each life is short, and the next one goes on; the last one comes to the end.
    for chunks in (5, 9, 14, 3):
        monkeypatch.setattr(Loop, "train_on", stopping_after(chunks, training))
        with pytest.raises(Killed):
            train(workspace, PARAMS)
    monkeypatch.setattr(Loop, "train_on", training)
    train(workspace, PARAMS)
    same_bytes(workspace, undisturbed)
    assert {"probe between two", "tune between two"} <= set(seen)
    assert not (workspace.var / "checkpoints" / "train" / "standing.npz").exists()


@pytest.mark.usefixtures("every_chunk")
def test_other_parameters_begin_anew(
    ready: Workspace, undisturbed: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = small.copied(ready, tmp_path)
    training = Loop.train_on
    monkeypatch.setattr(Loop, "train_on", stopping_after(6, training))
    other = small.small_params({"last_blocks": 2}, train={"epochs": 3}, seed=4)
    with pytest.raises(Killed):
        train(workspace, other)
    monkeypatch.setattr(Loop, "train_on", training)
    train(workspace, PARAMS)
    same_bytes(workspace, undisturbed)


@pytest.mark.slow
@pytest.mark.kill
def test_it_survives_sigkill_at_random_moments(
    ready: Workspace, undisturbed: Workspace, tmp_path: Path
) -> None:
    workspace = small.copied(ready, tmp_path)
    standing = workspace.var / "checkpoints" / "train" / "standing.npz"
    chance = random.Random(0)
    phases: dict[str, int] = {}
    kills = 0
    while kills < KILLS:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.model.resuming", str(workspace.root)], cwd=ROOT
        )
        before = standing.stat().st_mtime_ns if standing.exists() else 0
        # From the moment on in which it has gone on by one checkpoint at least.
        while process.poll() is None and (
            not standing.exists() or standing.stat().st_mtime_ns == before
        ):
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.12))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        phase = phase_of(standing)
        phases[phase] = phases.get(phase, 0) + 1
    else:
        subprocess.run(
            [sys.executable, "-m", "tests.model.resuming", str(workspace.root)],
            cwd=ROOT,
            check=True,
        )
    sys.stdout.write(f"killed {kills} times: {phases}\n")
    assert kills >= 20
    assert phases.keys() == {"probe", "tune"}
    same_bytes(workspace, undisturbed)


def phase_of(path: Path) -> str:
    import io
    import json

    with np.load(io.BytesIO(path.read_bytes()[32:]), allow_pickle=False) as file:
        return str(json.loads(file["record"].tobytes())["phase"])
