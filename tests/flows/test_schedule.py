"""A schedule of every minute, left alone: servers, worker and runs as ``make up`` has them."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from graftline.core.private import login, login_file
from graftline.core.workspace import Workspace
from graftline.operations.names_on_servers import name_on_servers, with_project
from graftline.orchestration.services import MARK
from tests import histories
from tests.flows import toy

pytestmark = pytest.mark.slow

NOTHING = "nothing new: images, parameters and code are those of the last training"
LIMIT_S = 1800
_POLL_S = 2


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("standing")
    workspace = toy.make(folder / "checkout", histories.make_template(folder))
    text = (toy.CHECKOUT / "prefect.yaml").read_text(encoding="utf-8")
    assert '"0 3 * * *"' in text
    (workspace.root / "prefect.yaml").write_text(text.replace('"0 3 * * *"', '"* * * * *"'))
    yield workspace
    standing(workspace, "down")
    shutil.rmtree(workspace.root)


def standing(workspace: Workspace, *arguments: str) -> str:
    environment = toy.environment({})
    # Its own database: the tests' shared one has runs of others.
    environment.pop("PREFECT_HOME")
    environment.pop("PREFECT_API_URL", None)
    done = subprocess.run(
        [sys.executable, "-m", "graftline", *arguments],
        cwd=workspace.root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def up(workspace: Workspace) -> dict[str, str]:
    """What ``up`` prints, by the first word of its lines."""
    said = standing(workspace, "up", "--prefect-port", "0", "--mlflow-port", "0")
    return dict(line.split(maxsplit=1) for line in said.splitlines() if line)


def flow_runs(workspace: Workspace, prefect: str) -> list[dict[str, Any]]:
    """The retrainings that have begun, the first one first; cancelled ones never have."""
    token = base64.b64encode(login(login_file(workspace)).encode()).decode()
    request = urllib.request.Request(
        f"{prefect}/api/flow_runs/filter",
        data=json.dumps({"sort": "EXPECTED_START_TIME_ASC"}).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Basic {token}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return [run for run in json.load(answer) if run["start_time"] and run["name"] != "watch"]


def ended(workspace: Workspace, prefect: str, count: int) -> list[dict[str, Any]]:
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        runs = [run for run in flow_runs(workspace, prefect) if run["end_time"]]
        if len(runs) >= count:
            return runs
        time.sleep(_POLL_S)
    raise TimeoutError(f"{count} runs did not end within {LIMIT_S} s")


def children(workspace: Workspace) -> list[psutil.Process]:
    """The processes that a worker of this checkout has started, and the worker itself."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(str(workspace.root)):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_it_runs_three_times_by_itself_and_the_later_ones_find_nothing(checkout: Workspace) -> None:
    first = up(checkout)
    assert first["Prefect"].startswith("http://127.0.0.1:")
    assert first["MLflow"].startswith("http://127.0.0.1:")
    assert up(checkout) == first, "a second up changes nothing"
    one, *later = ended(checkout, first["Prefect"], 3)[:3]
    assert one["state_type"] == "COMPLETED"
    assert one["name"] == "retrain: no flow has got to its end here yet"
    assert one["deployment_id"] and one["auto_scheduled"]
    for run in later:
        assert run["state_type"] == "COMPLETED"
        assert run["name"] == "retrain: nothing new"
        assert run["state"]["message"] == NOTHING
    assert toy.ran(checkout) == list(toy.STAGES)
    [tracked] = histories.runs_of(checkout)
    assert tracked.info.status == "FINISHED"


@pytest.mark.kill
def test_down_stops_all_that_up_started_and_nothing_else(checkout: Workspace) -> None:
    addresses = up(checkout)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        assert children(checkout)
        said = standing(checkout, "down")
        pool = with_project("graftline", name_on_servers(checkout))
        assert f"worker   pool {pool}: stopped" in said
        assert children(checkout) == []
        for name in ("Prefect", "MLflow"):
            assert f"{name:8} stopped" in said
            with pytest.raises(OSError):
                urllib.request.urlopen(addresses[name], timeout=5)
        assert stranger.poll() is None
        stranger.kill()
    assert "nothing was up here" in standing(checkout, "down")
    assert not list(Path(checkout.var).rglob("server.json"))
