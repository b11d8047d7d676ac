"""Machines without a place for temporary files: only the checkout can be written, and worse."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace
from tests.flows import tiny
from tests.unit.inference.serving.service import encoded, in_base64
from tests.unit.inference.serving.test_cli import posted, served

pytestmark = pytest.mark.slow
Mounts = Callable[[Path], tuple[list[str], dict[str, str]]]


def nothing_but_the_checkout(folder: Path) -> tuple[list[str], dict[str, str]]:
    """/tmp, /var/tmp, /dev/shm and the home are read-only, as in a hardened container."""
    kept = shlex.quote(str(folder))
    return [
        *("mount --bind /tmp /tmp", f"mount --bind {kept} {kept}"),
        *(f"mount -t tmpfs -o size=1m,ro none {place}" for place in ("/var/tmp", "/dev/shm")),
        f"mount -t tmpfs -o size=1m,ro none {kept}/home",
        "mount -o remount,ro,bind /tmp",
        # So that what is tested is known to hold.
        "! touch /tmp/x /var/tmp/x /dev/shm/x $HOME/x 2>/dev/null",
    ], {"HOME": str(folder / "home")}


def a_mean_place(folder: Path) -> tuple[list[str], dict[str, str]]:
    """64 KiB in memory, no home, and a folder of 300 signs from which nothing may be executed."""
    place = folder / ("a" * 140) / ("b" * 140)
    return [
        f"mkdir -p {shlex.quote(str(place))}",
        f"mount -t tmpfs -o size=64m,noexec none {shlex.quote(str(place))}",
        "mount -t tmpfs -o size=64k none /dev/shm",
        "unset HOME",
    ], {"TMPDIR": str(place)}


@pytest.mark.parametrize("mounts", [nothing_but_the_checkout, a_mean_place])
def test_every_door_opens(mounts: Mounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = tiny.make(tmp_path)
    (tmp_path / "home").mkdir()
    commands, environment = mounts(tmp_path)
    for name in ("DVC_SITE_CACHE_DIR", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
        monkeypatch.delenv(name)
    monkeypatch.delenv("PREFECT_HOME")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    image = np.zeros((20, 20), np.uint8)
    image[:, 7:13] = 200
    Image.fromarray(image).save(tmp_path / "one.png")

    def strange(*command: str) -> list[str]:
        steps = [*commands, f"cd {shlex.quote(str(workspace.root))}", 'exec "$@"']
        return ["unshare", "--mount", "sh", "-c", " && ".join(steps), "sh", *command]

    if subprocess.run(strange("true"), capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount in a namespace of their own")
    said = ran(strange(sys.executable, "-m", "flows.train"))
    assert all(f"{stage:<10} executed" in said for stage in STAGES), said
    assert ran(strange("dvc", "repro", "--force", "extract")).count("Running stage") == 5
    files = [str(tmp_path / "one.png")]
    assert '"label": "1"' in ran(
        strange(sys.executable, "-m", "graftline", "predict", "--json", *files)
    )
    assert "images     1: 1 (1)" in ran(strange(sys.executable, "-m", "flows.predict", *files))
    with served(interpreter=strange(sys.executable, "-m", "graftline")) as (address, _):
        assert "'label': '1'" in str(posted(address, {"images": [in_base64(encoded(image))]}))
    assert left(workspace, tmp_path) == []


def ran(command: list[str]) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def left(workspace: Workspace, folder: Path) -> list[str]:
    """What is in the checkout and beside it that was not there before, and is no output."""
    said = tiny.sh(workspace.root, "git", "status", "--porcelain", "--untracked-files=all")
    known = ("params.yaml", "dvc.lock", "reports/", "models/", "data/")
    here = [line[3:] for line in said.splitlines() if not line[3:].startswith(known)]
    return here + [one.name for one in folder.glob(".graftline*")]
