"""A full disk at every stage: an error that says so, what was there stays, and then it goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from graftline.stages import STAGES
from tests import disks
from tests.disks import filled
from tests.torture import place as places
from tests.torture.place import Place

pytestmark = [pytest.mark.slow, pytest.mark.kill]

# load and extract know beforehand how much they are going to write.
FULL = ("no space is left on the disk", "are free on the disk")
_SIZE_MIB = 96
_LEFT_BYTES = {
    "load": 16 << 10,
    "preprocess": 16 << 10,
    "assemble": 256 << 10,
    "freeze": 4 << 10,
    "extract": 16 << 10,
    "train": 128 << 10,
    "evaluate": 64 << 10,
    "export": 64 << 10,
}
"""Enough to begin, and too little for what the stage writes."""


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A whole checkout, all of whose files lie on a small disk of their own."""
    folder = tmp_path_factory.mktemp("disk") / "small"
    with disks.mounted(folder, f"size={_SIZE_MIB}m"):
        place = places.make(folder)
        ran(place, "dvc", "repro")
        yield place


@pytest.mark.parametrize("left", ["nothing", "a little"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_says_so_keeps_what_was_and_goes_on(
    stage: str, left: str, small_disk: Place
) -> None:
    before = contents(small_disk)
    with filled(small_disk.folder, _LEFT_BYTES[stage] if left == "a little" else 0):
        ended = run(small_disk, sys.executable, "-m", "graftline", stage)
    assert ended.returncode == 2, ended.stdout
    assert any(words in ended.stdout for words in FULL)
    assert "free some space and run again" in ended.stdout
    assert "Traceback" not in ended.stdout
    assert contents(small_disk) == before
    ran(small_disk, sys.executable, "-m", "graftline", stage)
    assert contents(small_disk) == before


def test_dvc_says_so_and_goes_on(small_disk: Place) -> None:
    before = contents(small_disk)
    small_disk.make_stale(wipe=False)
    with filled(small_disk.folder, 512 << 10):
        ended = run(small_disk, "dvc", "repro")
    assert ended.returncode
    assert "no space" in ended.stdout.lower()
    ran(small_disk, "dvc", "repro")
    assert contents(small_disk) == before
    assert run(small_disk, "dvc", "status", "--json").stdout.strip().endswith("{}")


@pytest.mark.parametrize("left_bytes", [0, 64 << 10, 4 << 20])
def test_a_flow_says_so_and_goes_on(left_bytes: int, small_disk: Place) -> None:
    before = contents(small_disk)
    small_disk.make_stale(wipe=False)
    with filled(small_disk.folder, left_bytes):
        ended = run(small_disk, sys.executable, "-m", "flows.train")
    assert ended.returncode == 2, ended.stdout
    assert "no space is left on the disk" in ended.stdout
    assert "Traceback" not in ended.stdout
    ran(small_disk, sys.executable, "-m", "flows.train")
    after = contents(small_disk)
    assert {path: after.get(path) for path in before} == before
    # What a flow adds: its verdict, with the time and so no output of DVC's.
    assert all(path.startswith("reports/promotion") for path in after.keys() - before), after.keys()


def contents(place: Place) -> dict[str, bytes]:
    """Every output's bytes by path."""
    return {
        str(path.relative_to(place.root)): path.read_bytes()
        for folder in ("data", "models", "reports")
        for path in sorted((place.root / folder).rglob("*"))
        if path.is_file()
    }


def run(place: Place, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=place.root,
        env=place.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def ran(place: Place, *command: str) -> None:
    ended = run(place, *command)
    assert ended.returncode == 0, ended.stdout
