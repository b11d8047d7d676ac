"""Training comes to the same weights on one device, on several, and in several processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from graftline.compute.groups import Group, digest_of, environment_of, group_of, same_everywhere
from graftline.compute.own_cluster import Served
from graftline.core.errors import ParamsError
from graftline.core.params import ComputeParams, Params
from graftline.core.workspace import Workspace
from graftline.steps import train as step
from graftline.steps.extract import extract
from graftline.steps.freeze import freeze
from tests.model import small
from tests.model.distributed import ALL, LONG, write_params
from tests.model.test_resuming import same_bytes, standing_of
from tests.unit.compute.kept import kept_cluster

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 600.0


@pytest.fixture(scope="module")
def ready(assembled: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return up_to_extract(assembled, ALL, tmp_path_factory.mktemp("ready"))


@pytest.fixture(scope="module")
def alone(ready: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = tmp_path_factory.mktemp("alone") / "weights.npz"
    ended(started(ready, "1", str(kept)))
    return kept


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 3])
def test_on_several_devices(devices: int, ready: Workspace, alone: Path, tmp_path: Path) -> None:
    kept = tmp_path / "weights.npz"
    ended(started(ready, str(devices), str(kept)))
    same_weights(kept, alone)


@pytest.mark.slow
def test_in_two_processes(ready: Workspace, alone: Path, tmp_path: Path) -> None:
    addresses = two_addresses()
    processes = [
        started(ready, "1", str(tmp_path / "kept.npz"), **environment_of(addresses, index))
        for index in range(2)
    ]
    for index, process in enumerate(processes):
        ended(process)
        same_weights(tmp_path / f"kept-{index}.npz", alone)


@pytest.mark.slow
@pytest.mark.kill
def test_a_group_goes_on_after_a_kill_and_ends_with_the_same_bytes(
    assembled: Workspace, tmp_path: Path
) -> None:
    prepared = up_to_extract(assembled, LONG, tmp_path / "prepared")
    undisturbed = small.copied(prepared, tmp_path / "undisturbed")
    for process in group(undisturbed):
        ended(process)
    workspace = small.copied(prepared, tmp_path / "killed")
    addresses = two_addresses()
    with socket.create_server(("", int(addresses[1].partition(":")[2]))):
        processes = group(workspace, addresses)
        # The port of the one that joins is taken: it tries again until it is free.
        child_after(child_after(None, processes[1]), processes[1])
    # One that joins, then the one that leads.
    for victim, phase in ((1, "probe"), (0, "tune")):
        wait_until_it_is_in(phase, workspace, processes)
        (child,) = psutil.Process(processes[victim].pid).children()
        child.send_signal(signal.SIGKILL)
    for process in processes:
        ended(process)
    same_bytes(workspace, undisturbed)
    assert not workspace.checkpoint.exists()


@pytest.mark.slow
@pytest.mark.kill
def test_the_workers_of_a_scheduler_train_along(
    assembled: Workspace, ready: Workspace, alone: Path, tmp_path: Path
) -> None:
    prepared = up_to_extract(assembled, LONG, tmp_path / "prepared")
    with kept_cluster(tmp_path) as told:
        # The workers look for the project's folder themselves; of the cluster they need none.
        places = {"undisturbed": prepared, "killed": prepared, "ready": ready}
        places = {name: small.copied(made, tmp_path / name) for name, made in places.items()}
        for workspace in places.values():
            shutil.copytree(tmp_path / "var", workspace.root / "var", dirs_exist_ok=True)
        ended(over(places["ready"], told, "1", str(tmp_path / "kept.npz")))
        for index in range(3):
            same_weights(tmp_path / f"kept-{index}.npz", alone)

        # It is undisturbed once it has found ports that are free.
        said = tmp_path / "said.txt"
        ended(over(places["undisturbed"], told, "together", said=said, TAKEN_AT_FIRST="1"))
        assert said.read_text().count("its port is taken") == 1
        assert said.read_text().count("has broken; it starts again") == 1

        workspace = places["killed"]
        leader = over(workspace, told, "together")
        wait_until_it_is_in("probe", workspace, [leader])
        leader.send_signal(signal.SIGINT)
        assert leader.wait(PATIENCE_S) == 130
        assert members_of(told) == []

        leader = over(workspace, told, "together")
        wait_until_it_is_in("probe", workspace, [leader])
        members_of(told)[0].kill()
        wait_until_it_is_in("tune", workspace, [leader])
        # The worker with the member that it has started.
        members_of(told)[-1].parent().kill()
        ended(leader)
        same_bytes(workspace, places["undisturbed"])
        assert members_of(told) == []


def test_a_member_with_other_parameters_or_code_is_refused(
    head_only: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = small.small_params("all")
    faster = params.train.model_copy(update={"learning_rate": 0.02})
    other_params = step._key(head_only, params.model_copy(update={"train": faster}))
    with monkeypatch.context() as patched:
        patched.setattr(step, "code_state", lambda *_, **__: {"code": "another"})
        other_code = step._key(head_only, params)
    mine = step._key(head_only, params)
    assert same_everywhere(TwoProcesses(mine), mine)
    for other in (other_params, other_code):
        with pytest.raises(ParamsError, match="the same inputs, parameters or code") as caught:
            step._refuse_other_inputs(head_only, params, TwoProcesses(other), None)
        assert str(head_only.root) in str(caught.value.where)


@dataclass(frozen=True)
class TwoProcesses:
    """Stands for the strategy of a group: another process has a key of its own."""

    other: str

    def run(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        return function(*arguments)

    def gather(self, own: Any, axis: int) -> Any:
        import tensorflow as tf

        return tf.concat([own, tf.constant([digest_of(self.other)], tf.int64)], axis)


@pytest.mark.parametrize(
    ("strategy", "config", "found"),
    [
        ("auto", None, None),
        ("none", {"TF_CONFIG": "no JSON"}, None),
        ("mirrored", environment_of(["a:1", "b:2"], 1), None),
        ("auto", environment_of(["a:1", "b:2"], 1), Group(("a:1", "b:2"), 1)),
        ("multi_worker", environment_of(["a:1", "b:2"], 0), Group(("a:1", "b:2"), 0)),
        ("multi_worker", environment_of(["a:1"], 0), None),
        ("multi_worker", None, "is not set"),
        ("auto", {"TF_CONFIG": "no JSON"}, "names no group"),
        ("auto", environment_of(["a:1"], 1), "names no group"),
        ("auto", {"TF_CONFIG": '{"cluster": {"ps": ["a:1"]}, "task": {}}'}, "names no group"),
    ],
)
def test_the_group_is_the_one_that_tf_config_names(
    strategy: str,
    config: dict[str, str] | None,
    found: Group | str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in (config or {}).items():
        monkeypatch.setenv(name, value)
    compute = ComputeParams(strategy=strategy)  # type: ignore[arg-type]
    if not isinstance(found, str):
        assert group_of(compute) == found
        return
    with pytest.raises(ParamsError, match=found) as caught:
        group_of(compute)
    assert "TF_CONFIG" in str(caught.value.where)


def up_to_extract(assembled: Workspace, params: Params, root: Path) -> Workspace:
    workspace = small.copied(assembled, root)
    freeze(workspace, params)
    extract(workspace, params)
    write_params(workspace, params)
    return workspace


_STARTED: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    yield
    for process in _STARTED:
        # Its child ends with it.
        process.kill()
        process.wait()
    _STARTED.clear()


def started(
    workspace: Workspace, *arguments: str, said: Path | None = None, **environment: str
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.model.distributed", str(workspace.root), *arguments]
    with Path(said or os.devnull).open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stderr=output if said else None
        )
    _STARTED.append(process)
    return process


def group(
    workspace: Workspace, addresses: list[str] | None = None
) -> list[subprocess.Popen[bytes]]:
    addresses = addresses or two_addresses()
    return [
        started(workspace, kind, **environment_of(addresses, index))
        for index, kind in enumerate(("leads", "joins"))
    ]


def over(
    workspace: Workspace,
    told: Served,
    *arguments: str,
    said: Path | None = None,
    **environment: str,
) -> subprocess.Popen[bytes]:
    return started(workspace, "over", told.address, *arguments, said=said, **environment)


def members_of(told: Served) -> list[psutil.Process]:
    """The processes that the workers of a cluster have started."""
    children = psutil.Process(told.process.pid).children(recursive=True)
    found = [one for one in children if "tests.model.distributed" in " ".join(one.cmdline())]
    return sorted(found, key=lambda one: one.pid)


def ended(process: subprocess.Popen[bytes]) -> None:
    assert process.wait(PATIENCE_S) == 0


def child_after(before: psutil.Process | None, process: subprocess.Popen[bytes]) -> psutil.Process:
    """The next child that a process has started."""
    until_s = time.monotonic() + PATIENCE_S
    while not (found := [one for one in psutil.Process(process.pid).children() if one != before]):
        assert process.poll() is None
        assert time.monotonic() < until_s
        time.sleep(0.05)
    return found[0]


def wait_until_it_is_in(
    phase: str, workspace: Workspace, processes: list[subprocess.Popen[bytes]]
) -> None:
    before = standing_of(workspace)
    until_s = time.monotonic() + PATIENCE_S
    while (now := standing_of(workspace)) == before or now["phase"] != phase:
        assert all(process.poll() is None for process in processes)
        assert time.monotonic() < until_s
        time.sleep(0.01)


def two_addresses() -> list[str]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in (one, other)]


def same_weights(one: Path, other: Path) -> None:
    with np.load(one) as found, np.load(other) as wanted:
        assert found.keys() == wanted.keys()
        for name in wanted:
            np.testing.assert_allclose(found[name], wanted[name], atol=1e-5, err_msg=name)
