"""A killed training goes on where it stood, and ends with the bytes of an undisturbed one."""

from __future__ import annotations

import io
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from graftline.compute import devices
from graftline.core.workspace import Workspace
from graftline.steps import train as step
from graftline.steps.extract import extract
from graftline.steps.freeze import freeze
from graftline.steps.train import train
from graftline.training.checkpoints import Checkpoints, TrainState
from graftline.training.loop import Loop
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
    assert len(files) == 6
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
@pytest.mark.slow
def test_it_goes_on_from_any_chunk_of_either_phase(
    ready: Workspace, undisturbed: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = small.copied(ready, tmp_path)
    training = Loop.train_on
    seen: list[str] = []
    saving = Checkpoints.save

    def noting(self: Checkpoints, standing: TrainState, *, aside: bool = False) -> None:
        seen.append(f"{standing.phase} {'in an epoch' if standing.chunks else 'between two'}")
        saving(self, standing, aside=aside)

    monkeypatch.setattr(Checkpoints, "save", noting)
    # Each life is short, and the next one goes on; the last one comes to the end.
    for chunks in (5, 9, 14, 3):
        monkeypatch.setattr(Loop, "train_on", stopping_after(chunks, training))
        with pytest.raises(Killed):
            train(workspace, PARAMS)
    monkeypatch.setattr(Loop, "train_on", training)
    train(workspace, PARAMS, keep_checkpoint=True)
    same_bytes(workspace, undisturbed)
    assert {"probe between two", "tune between two"} <= set(seen)
    # What comes after the training has failed: it goes on from its end, with the same bytes.
    assert workspace.checkpoint.exists()
    monkeypatch.setattr(Loop, "train_on", stopping_after(5, training))
    train(workspace, PARAMS)
    same_bytes(workspace, undisturbed)
    assert not workspace.checkpoint.exists()


@pytest.mark.usefixtures("every_chunk")
@pytest.mark.slow
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
@pytest.mark.usefixtures("every_chunk")
def test_one_of_other_code_is_nobodys(
    ready: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = small.copied(ready, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(step, "code_state", lambda path, *, trains: f"another {path}, {trains}")
        patch.setattr(Loop, "train_on", stopping_after(6, Loop.train_on))
        with pytest.raises(Killed):
            train(workspace, PARAMS)
        file = workspace.checkpoint
        assert Checkpoints(file, step._key(workspace, PARAMS)).load() is not None
    assert Checkpoints(file, step._key(workspace, PARAMS)).load() is None


def test_one_of_other_parameters_is_nobodys(ready: Workspace) -> None:
    others = (
        small.small_params({"last_blocks": 2}, train={"epochs": 3}, seed=4),
        PARAMS.model_copy(update={"seed": PARAMS.seed + 1}),
        PARAMS.model_copy(update={"train": PARAMS.train.model_copy(update={"epochs": 11})}),
        PARAMS.model_copy(update={"tune": PARAMS.tune.model_copy(update={"epochs": 7})}),
    )
    keys = {step._key(ready, params) for params in (PARAMS, *others)}
    assert len(keys) == 1 + len(others)


def test_one_of_another_precision_is_nobodys(
    ready: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = small.small_params({"last_blocks": 2}, train={"mixed_precision": "auto"})
    keys = set()
    for flags in (frozenset(), frozenset({"amx_bf16"})):
        monkeypatch.setattr(devices, "cpu_flags", lambda flags=flags: flags)
        keys.add(step._key(ready, auto))
    assert len(keys) == 2


@pytest.mark.slow
@pytest.mark.kill
def test_it_survives_sigkill_at_random_moments(ready: Workspace, tmp_path: Path) -> None:
    workspace = small.copied(ready, tmp_path / "killed")
    undisturbed = small.copied(ready, tmp_path / "undisturbed")
    started(undisturbed).wait()
    chance = random.Random(0)
    phases = Counter[str]()
    for kill in range(KILLS):
        process = started(workspace)
        phase = "probe" if kill < KILLS // 2 else "tune"
        wait_until_it_is_in(phase, workspace, process)
        time.sleep(chance.uniform(0, 0.12))
        assert process.poll() is None, f"it had ended before kill {kill + 1}"
        process.send_signal(signal.SIGKILL)
        process.wait()
        phases[standing_of(workspace)["phase"]] += 1
    assert started(workspace).wait() == 0
    sys.stdout.write(f"killed {KILLS} times: {dict(phases)}\n")
    assert KILLS >= 20 and phases.keys() == {"probe", "tune"}
    same_bytes(workspace, undisturbed)


def started(workspace: Workspace) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.model.resuming", str(workspace.root)], cwd=ROOT
    )


def wait_until_it_is_in(phase: str, workspace: Workspace, process: subprocess.Popen[bytes]) -> None:
    """Waits until the process itself has written a checkpoint of the phase."""
    before = standing_of(workspace)
    while process.poll() is None:
        standing = standing_of(workspace)
        if standing != before and standing["phase"] == phase:
            return
        time.sleep(0.001)


def standing_of(workspace: Workspace) -> dict[str, Any]:
    path = workspace.var / "checkpoints" / "train" / "standing.npz"
    if not path.exists():
        return {"phase": ""}
    with np.load(io.BytesIO(path.read_bytes()[32:]), allow_pickle=False) as file:
        return dict(json.loads(file["record"].tobytes()))
