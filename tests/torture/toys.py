"""A toy checkout with everything that it needs from its surroundings, and waiting for files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace
from tests import histories
from tests.flows import toy

STEPS = (*STAGES, "register", "promote")
"""The tasks of a whole run."""
OUTAGE_S = float(os.environ.get("GRAFTLINE_TORTURE_OUTAGE_S", "6"))
"""How long a server is away; 60 for a real minute."""
_LIMIT_S = 1200.0
_started: list[subprocess.Popen[str]] = []


def make(folder: Path) -> Workspace:
    """A toy checkout in a folder of its own."""
    return toy.make(folder / "checkout", histories.make_template(folder))


def start(
    workspace: Workspace, *command: str, environment: dict[str, str]
) -> subprocess.Popen[str]:
    """Starts a command in the checkout; :func:`end_all` ends it if nothing else has."""
    process = subprocess.Popen(
        command,
        cwd=workspace.root,
        env=toy.environment(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    _started.append(process)
    return process


def end_all() -> None:
    """Ends what a test that failed has left at work."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code, and all that it said."""
    said, _ = process.communicate(timeout=_LIMIT_S)
    return process.returncode, said


def wait_for(path: Path) -> None:
    """Waits until a file is there."""
    until = time.monotonic() + _LIMIT_S
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{path} did not appear")
        time.sleep(0.05)


def dvc_status(workspace: Workspace) -> object:
    """What DVC would run."""
    code, said = ended(
        start(workspace, sys.executable, "-m", "dvc", "status", "--json", environment={})
    )
    assert code == 0, said
    return json.loads(said.splitlines()[-1])
