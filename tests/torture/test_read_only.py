"""A checkout in which nothing can be written: every door says so, and nothing changes."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from graftline.core.workspace import Workspace
from tests.flows import toy
from tests.torture import toys

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = toys.make(tmp_path_factory.mktemp("read_only"))
    if read_only(workspace, "true").returncode:
        pytest.skip("this user may not mount in a namespace of their own")
    return workspace


def read_only(workspace: Workspace, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to which the checkout is mounted read-only; root would ignore modes."""
    root = shlex.quote(str(workspace.root))
    script = (
        f"mount --bind {root} {root} && mount -o remount,ro,bind {root} && cd {root} && "
        f"exec {shlex.join(command)}"
    )
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env=toy.environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "command",
    [
        (sys.executable, "-m", "graftline", "load"),
        (sys.executable, "-m", "flows.train"),
        (sys.executable, "-m", "flows.train", "--set", "train.epochs=3"),
    ],
    ids=["step", "flow", "flow with a change"],
)
def test_it_says_so(workspace: Workspace, command: tuple[str, ...]) -> None:
    before = contents(workspace.root)
    ended = read_only(workspace, *command)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "Read-only file system" in ended.stderr
    assert str(workspace.root) in ended.stderr
    assert "give this user that right, or work in a copy" in ended.stderr
    assert "fault" not in ended.stderr
    assert contents(workspace.root) == before


def test_dvc_refuses_too(workspace: Workspace) -> None:
    before = contents(workspace.root)
    ended = read_only(workspace, sys.executable, "-m", "dvc", "repro")
    assert ended.returncode
    assert "Read-only file system" in ended.stdout + ended.stderr
    assert contents(workspace.root) == before


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
