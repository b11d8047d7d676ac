"""Git as its users have it: failing hooks, signatures without a key, rubbish taken out between."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from graftline.workspace import Workspace
from tests import gitconfig
from tests.flows import toy
from tests.torture import toys

pytestmark = pytest.mark.slow
FLOW = (sys.executable, "-m", "flows.train")
DVC = (sys.executable, "-m", "dvc")
GRAFTLINE = (sys.executable, "-m", "graftline")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A checkout whose flow has run, with a champion, committed."""
    workspace = toys.make(tmp_path)
    ran(workspace, *FLOW)
    ran(workspace, "git", "add", "--all")
    ran(workspace, "git", "commit", "--quiet", "--message", "ran")
    return workspace


def ran(workspace: Workspace, *command: str, **environment: str) -> str:
    code, said = toys.ended(toys.start(workspace, *command, environment=environment))
    assert code == 0, said
    return said


def test_every_door_opens_under_awkward_settings(workspace: Workspace, tmp_path: Path) -> None:
    settings = gitconfig.awkward(tmp_path / "settings")
    # DVC reads settings in the home only; the tests' own environment has a name for commits.
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "settings" / "gitconfig").rename(home / ".gitconfig")
    without = {
        **settings,
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"), ""),
        **dict.fromkeys(("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"), ""),
    }
    subprocess.run(["git", "checkout", "--quiet", "--detach"], cwd=workspace.root, check=True)
    ran(workspace, *GRAFTLINE, "status", **without)
    ran(workspace, *DVC, "exp", "run", "-S", "seed=9", **without)
    said = ran(workspace, *FLOW, "--set", "seed=8", **without)
    assert "train      executed" in said
    ran(workspace, *DVC, "repro", "--force", **without)
    said = ran(workspace, *GRAFTLINE, "reproduce", "1", **without)
    assert "the same came out, to the last bit" in " ".join(said.split())
    assert toys.dvc_status(workspace) == {}
    stashed = ran(workspace, "git", "stash", "list")
    assert stashed == ""


def test_rubbish_is_taken_out_between_two_steps(workspace: Workspace) -> None:
    """What waits in the workspace is no rubbish; what is taken out is computed again."""

    def take_out() -> None:
        ran(workspace, *DVC, "gc", "--workspace", "--force")
        ran(workspace, "git", "gc", "--quiet", "--prune=now")

    (workspace.root / "ran.txt").unlink()
    params = workspace.params_file.read_text()
    workspace.params_file.write_text(params.replace("seed: 7", "seed: 8"))
    ran(workspace, *DVC, "repro", "extract")
    take_out()
    ran(workspace, *FLOW)
    assert toy.ran(workspace) == ["load", "train", "evaluate", "export"]
    workspace.params_file.write_text(params.replace("0.001", "0.002"))
    ran(workspace, *DVC, "repro", "train")
    take_out()
    ran(workspace, *DVC, "repro")
    assert toys.dvc_status(workspace) == {}
    take_out()
    # The first run's outputs are in no cache any more; its commit tells how to make them.
    record = ran(workspace, *GRAFTLINE, "reproduce", "1", "--json")
    told = json.loads(record[record.index("{") :])
    assert told["same"] is True, told
    assert toys.dvc_status(workspace) == {}
