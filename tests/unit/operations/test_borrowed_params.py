"""``--once``: the file is put back at the end, after a kill at the next start, and never lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from graftline.core.errors import ParamsError
from graftline.core.workspace import Workspace
from graftline.operations.borrowed_params import (
    borrow,
    put_back,
    put_back_abandoned,
    refuse_abandoned,
)

BEFORE, MEANWHILE = "seed: 0  # mine\n", "seed: 1\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.params_file.write_text(BEFORE)
    return made


def killed(workspace: Workspace) -> None:
    """A run that has borrowed the file, and is killed."""
    code = (
        "import os, sys; from pathlib import Path\n"
        "from graftline.core.workspace import Workspace\n"
        "from graftline.operations.borrowed_params import borrow\n"
        f"borrow(Workspace(Path(sys.argv[1])), {MEANWHILE!r}); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(workspace.root)], check=False)
    assert workspace.params_file.read_text() == MEANWHILE


def test_it_is_put_back_once(workspace: Workspace) -> None:
    borrow(workspace, MEANWHILE)
    assert workspace.params_file.read_text() == MEANWHILE
    assert put_back_abandoned(workspace) is None, "its run is still at work"
    assert "as it was before" in str(put_back(workspace))
    assert workspace.params_file.read_text() == BEFORE
    assert put_back(workspace) is None


def test_after_a_kill_the_next_start_puts_it_back(workspace: Workspace) -> None:
    killed(workspace)
    assert "as it was before" in str(put_back_abandoned(workspace))
    assert workspace.params_file.read_text() == BEFORE


def test_no_stage_runs_with_the_parameters_of_a_killed_run(workspace: Workspace) -> None:
    killed(workspace)
    with pytest.raises(ParamsError, match="a run with --once was killed here"):
        refuse_abandoned(workspace)
    assert workspace.params_file.read_text() == BEFORE
    refuse_abandoned(workspace)


def test_what_was_changed_meanwhile_stays(workspace: Workspace) -> None:
    borrow(workspace, MEANWHILE)
    workspace.params_file.write_text("seed: 7\n")
    assert "stays; before: var/params/before-once.yaml" in str(put_back(workspace))
    assert workspace.params_file.read_text() == "seed: 7\n"
    assert (workspace.root / "var" / "params" / "before-once.yaml").read_text() == BEFORE
