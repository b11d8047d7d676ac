"""The clock jumps in the middle of a run, and of a service: back, and by years."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from graftline import tracking
from graftline.register import register
from graftline.stages import STAGES
from graftline.workspace import Workspace
from tests import finished, histories
from tests.flows import toy
from tests.torture import toys
from tests.unit.serving.service import in_base64
from tests.unit.serving.test_app import NOON
from tests.unit.serving.test_command import posted, served

pytestmark = [pytest.mark.slow, pytest.mark.kill]

COMPILER = shutil.which("cc")
HOUR_S, TEN_YEARS_S = 3600, 315_360_000


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file: the seconds in it move the clock of every process that is started."""
    if COMPILER is None:
        pytest.skip("there is no C compiler to make another clock with")
    library, jumps = tmp_path / "clock.so", tmp_path / "jumps"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("GRAFTLINE_CLOCK_JUMPS", str(jumps))
    return jumps


@pytest.mark.parametrize("jump_s", [-HOUR_S, TEN_YEARS_S])
def test_a_run_outlives_it(jump_s: int, clock: Path, tmp_path: Path) -> None:
    """The flow, its stages, DVC, MLflow, and Prefect's server, which the flow starts."""
    workspace = toys.make(tmp_path)
    flow = toys.start(workspace, *toy.command(), environment={"TOY_WAITS": "train"})
    toys.wait_for(workspace.var / "waiting")
    clock.write_text(str(jump_s))
    (workspace.var / "go").touch()
    code, said = toys.ended(flow)
    assert code == 0, said
    told = re.search(r"Done in ([\d.]+) s", said)
    assert told is not None and 0 < float(told[1]) < HOUR_S / 2
    assert "Prefect's server" not in said
    assert toys.dvc_status(workspace) == {}
    [run] = histories.runs_of(workspace)
    assert run.info.status == "FINISHED"
    code, said = toys.ended(toys.start(workspace, *toy.command(), environment={}))
    assert code == 0, said
    assert toy.ran(workspace) == list(STAGES)


def test_prefect_hears_of_every_task_though_it_was_sent_earlier(
    clock: Path, tmp_path: Path, prefect_api: str
) -> None:
    """The flow's clock is an hour behind its server's, as on another machine."""
    workspace = toys.make(tmp_path)
    environment = {"PREFECT_API_URL": prefect_api, "TOY_WAITS": "train"}
    flow = toys.start(workspace, *toy.command(), environment=environment)
    toys.wait_for(workspace.var / "waiting")
    clock.write_text(str(-HOUR_S))
    (workspace.var / "go").touch()
    code, said = toys.ended(flow)
    assert code == 0, said
    assert task_states() == dict.fromkeys(toys.STEPS, "COMPLETED")


def task_states() -> dict[str, str]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        newest = client.read_flow_runs(limit=1, sort=FlowRunSort.EXPECTED_START_TIME_DESC)[0]
        runs = client.read_task_runs()
    return {
        run.name: run.state.type.value for run in runs if run.state and run.flow_run_id == newest.id
    }


@pytest.fixture
def champion(tmp_path: Path) -> Workspace:
    """Two registered versions, of which the first is the champion."""
    workspace = Workspace(tmp_path / "served")
    finished.finish(workspace)
    histories.use_template(histories.make_template(tmp_path), workspace)
    for weights in ("first", "second"):
        finished.train(workspace, weights)
        params = finished.some_params()
        register(workspace, params, tracking.open_run(workspace, params))
    histories.client_of(workspace).set_registered_model_alias("graftline", "champion", "1")
    return workspace


def test_a_service_outlives_it(champion: Workspace, clock: Path) -> None:
    """Answers, deadlines of heads and bodies, and the look for a new champion, whatever the day."""
    options = ("--watch-s", "0.2", "--time-limit-s", "5", "-C", str(champion.root))
    with served(*options) as (address, _):
        place = (urlsplit(address).hostname, urlsplit(address).port)
        with socket.create_connection(place, 60) as silent, socket.create_connection(place) as slow:
            began_s = time.monotonic()
            slow.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n")
            days = set()
            for jump_s in (-HOUR_S, TEN_YEARS_S, -TEN_YEARS_S):
                clock.write_text(str(jump_s))
                assert posted(address, {"images": [in_base64(NOON)]})["predictions"]
                time.sleep(1.1)  # The server writes its date anew once a second.
                days.add(date_of(address)[7:16])
            assert len(days) == 3
            slow.settimeout(60)
            assert slow.recv(1 << 16).startswith(b"HTTP/1.1 408 ")
            assert 4 < time.monotonic() - began_s < 30
            assert silent.recv(1) == b""
            assert 9 < time.monotonic() - began_s < 40
        histories.client_of(champion).set_registered_model_alias("graftline", "champion", "2")
        until_s = time.monotonic() + 60
        while "'version': '2'" not in str(posted(address, {"images": [in_base64(NOON)]})["model"]):
            assert time.monotonic() < until_s
            time.sleep(0.2)
        clock.write_text(str(TEN_YEARS_S))
        assert posted(address, {"images": [in_base64(NOON)]})["predictions"]
        assert 0 < seconds_of_requests(address) < 60


def date_of(address: str) -> str:
    with urllib.request.urlopen(f"{address}/health", timeout=60) as answer:
        return str(answer.headers["Date"])


def seconds_of_requests(address: str) -> float:
    with urllib.request.urlopen(f"{address}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    found = re.findall(r'^graftline_request_seconds_sum\{path="/predict"\} (\S+)', text, re.M)
    return float(found[0])
