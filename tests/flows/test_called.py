"""The flows called from Python, as a notebook does: the project's own server has the run."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from graftline.core.params import read_params
from tests import histories
from tests.flows import toy

pytestmark = pytest.mark.slow

CALLS = """
import prefect  # A notebook may have imported it for something else.
from pathlib import Path
from flows.retrain import retrain
from flows.train import train
from flows.watch import watch
from graftline.core.params import read_params

print("first", train().decision)
assert retrain() is None
params = read_params(Path("params.yaml"))
faster = params.train.model_copy(update={"learning_rate": 0.05})
print("second", train(params.model_copy(update={"train": faster})).decision)
Path("images").mkdir()
assert retrain.with_options(description="another").with_options(retries=0)() is None
for name in ("one", "two"):
    Path("images", f"{name}.png").write_bytes(b"")
    watch("images", settle_s=0.0)
"""


def test_the_projects_server_has_the_run_and_params_are_used(tmp_path: Path) -> None:
    workspace = toy.make(tmp_path / "a project", histories.make_template(tmp_path))
    home = tmp_path / "home"
    home.mkdir()
    environment = toy.environment({"HOME": str(home)})
    environment.pop("PREFECT_HOME")
    environment.pop("PREFECT_API_URL", None)
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        cwd=workspace.root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "first promoted" in done.stdout and "second " in done.stdout
    assert toy.ran(workspace) == [*toy.STAGES, "train", "evaluate", "export"]
    text = workspace.params_file.read_text()
    assert "learning_rate: 0.05" in text and "# a comment that must stay" in text
    assert read_params(workspace.params_file).train.learning_rate == 0.05
    assert not list(home.rglob("prefect.db"))
    with sqlite3.connect(workspace.var / "prefect" / "prefect.db") as database:
        [(count,)] = database.execute("select count(*) from flow_run where state_type='COMPLETED'")
        events = database.execute("select count(*) from events where event like 'graftline.%'")
        assert events.fetchone() == (1,)
    # With nothing new and no server, the call of retrain started none.
    assert count == 5
