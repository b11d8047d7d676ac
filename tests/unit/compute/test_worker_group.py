"""Dask's workers and the step's process form a group, and nothing of it is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.unit.compute.kept import ROOT, kept_cluster

pytestmark = [pytest.mark.slow, pytest.mark.kill]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("group")
    with kept_cluster(folder) as told:
        yield folder, told.address


@pytest.fixture
def group(cluster: tuple[Path, str]) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    folder, address = cluster
    for path in [*folder.glob("member-*"), *folder.glob("order-*")]:
        path.unlink()
    command = [sys.executable, "-m", "tests.unit.compute.together", str(folder), address]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield folder, process
    finally:
        process.kill()
        process.communicate()


def told(folder: Path) -> dict[int, tuple[int, dict[str, object]]]:
    """The number of each living member's process and its TF_CONFIG, by index."""
    found = {}
    for path in folder.glob("member-*"):
        _, index, pid = path.name.split("-")
        if lives(int(pid)) and (text := path.read_text()):
            found[int(index)] = (int(pid), json.loads(text))
    return found


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait(until_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 90
    while not until_so():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_each_finds_the_same_addresses_and_a_lost_one_comes_back(
    group: tuple[Path, subprocess.Popen[str]],
):
    folder, process = group
    wait(lambda: len(told(folder)) == 3)
    first = told(folder)
    (addresses,) = {json.dumps(config["cluster"]) for _, config in first.values()}
    assert len(set(json.loads(addresses)["worker"])) == 3
    os.kill(first[2][0], signal.SIGKILL)
    pids = {pid for pid, _ in first.values()}
    wait(lambda: len(told(folder)) == 3 and not pids & {pid for pid, _ in told(folder).values()})
    for index in range(3):
        (folder / f"order-{index}").write_text("0")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said


def test_the_error_of_a_member_is_told_by_its_workers_name(
    group: tuple[Path, subprocess.Popen[str]],
):
    folder, process = group
    wait(lambda: len(told(folder)) == 3)
    (folder / "order-2").write_text("2")
    _, said = process.communicate(timeout=90)
    assert process.returncode == 2
    assert "that trains along on tls://127.0.0.1" in said
    assert "this is member 2" in said
    assert "2.txt" in said
    wait(lambda: not told(folder))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_with_the_one_that_leads_all_end(
    how: signal.Signals, group: tuple[Path, subprocess.Popen[str]]
):
    folder, process = group
    wait(lambda: len(told(folder)) == 3)
    process.send_signal(how)
    process.communicate(timeout=60)
    wait(lambda: not told(folder))
