"""A server that goes away in the middle of a run: it waits, says so, and loses nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from graftline.core.environment import RUN_ID_VARIABLE
from graftline.core.params import read_params
from graftline.core.processes import end_group
from graftline.core.workspace import Workspace
from graftline.operations.servers import (
    Server,
    ServerRecord,
    client_environment,
    join,
    leave,
    mlflow_server,
    prefect_server,
)
from graftline.registry.tracking import complete_run, open_run, stage_recorder
from tests import finished, histories
from tests.flows import toy
from tests.torture import toys
from tests.torture.toys import OUTAGE_S

pytestmark = [pytest.mark.slow, pytest.mark.kill]


@contextmanager
def served(server: Server) -> Iterator[str]:
    address = join(server)
    try:
        yield address
    finally:
        leave(server)


def kill(server: Server) -> None:
    text = (server.folder / "server.json").read_text(encoding="utf-8")
    process = ServerRecord.model_validate_json(text).process
    os.killpg(process.pid, signal.SIGKILL)
    end_group(process)


def restart(server: Server, address: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # It looks for its store where this process does, which is its client by now.
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert join(replace(server, preferred_port=urlsplit(address).port or 0)) == address


def states(database: Path, table: str) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return sorted(connection.execute(f"select name, state_type from {table}"))


def test_a_prefect_server_that_comes_back(tmp_path: Path) -> None:
    workspace = toys.make(tmp_path)
    elsewhere = Workspace(tmp_path / "elsewhere")
    server = prefect_server(elsewhere, preferred_port=0)
    server = replace(server, environment={**server.environment, "PREFECT_HOME": str(server.folder)})
    with served(server) as address:
        flow = toys.start(
            workspace,
            *toy.command(),
            environment={**client_environment(server, address), "TOY_WAITS": "train"},
        )
        toys.wait_for(workspace.var / "waiting")
        kill(server)
        (workspace.var / "go").touch()
        time.sleep(OUTAGE_S)
        restart(server, address)
        code, said = toys.ended(flow)
    assert code == 0, said
    assert "Prefect's server is away" in said, said
    assert "Prefect's server is back" in said, said
    assert states(server.folder / "prefect.db", "task_run") == sorted(
        (step, "COMPLETED") for step in toys.STEPS
    ), said
    assert [state for _, state in states(server.folder / "prefect.db", "flow_run")] == ["COMPLETED"]
    assert toys.dvc_status(workspace) == {}


def test_a_prefect_server_of_ones_own_is_started_again(tmp_path: Path) -> None:
    workspace = toys.make(tmp_path)
    home = workspace.var / "prefect"
    flow = toys.start(
        workspace, *toy.command(), environment={"PREFECT_HOME": str(home), "TOY_WAITS": "train"}
    )
    toys.wait_for(workspace.var / "waiting")
    kill(prefect_server(workspace))
    (workspace.var / "go").touch()
    code, said = toys.ended(flow)
    assert code == 0, said
    assert "the Prefect server was gone; it is being started again" in said
    assert states(home / "prefect.db", "task_run") == sorted(
        (step, "COMPLETED") for step in toys.STEPS
    )
    assert [state for _, state in states(home / "prefect.db", "flow_run")] == ["COMPLETED"]
    assert not (home / "server.json").exists()


def test_an_mlflow_server_that_is_away_at_the_end_of_a_flow(
    tmp_path: Path, prefect_api: str
) -> None:
    workspace = toys.make(tmp_path)
    history = Workspace(tmp_path / "history")
    histories.use_template(tmp_path / "mlflow.db", history)
    server = replace(mlflow_server(history), preferred_port=0)
    with served(server) as address:
        flow = toys.start(
            workspace,
            *toy.command(),
            environment={
                "PREFECT_API_URL": prefect_api,
                "MLFLOW_TRACKING_URI": address,
                **histories.let_in(history),
                "TOY_WAITS": "evaluate",
            },
        )
        toys.wait_for(workspace.var / "waiting")
        kill(server)
        (workspace.var / "go").touch()
        time.sleep(OUTAGE_S)
        restart(server, address)
        code, said = toys.ended(flow)
    assert code == 0, said
    [run] = histories.runs_of(history)
    assert run.info.status == "FINISHED"
    client = histories.client_of(history)
    [version] = client.search_model_versions("name='graftline'")
    assert version.run_id == run.info.run_id


def test_epochs_of_an_outage_are_told_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = toys.make(tmp_path)
    finished.finish(workspace)
    params = read_params(workspace.params_file)
    history = Workspace(tmp_path / "history")
    histories.use_template(tmp_path / "mlflow.db", history)
    server = replace(mlflow_server(history), preferred_port=0)
    with served(server) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        for name, value in histories.let_in(history).items():
            monkeypatch.setenv(name, value)
        run_id = open_run(workspace, params)
        monkeypatch.setenv(RUN_ID_VARIABLE, run_id)
        with stage_recorder(workspace, params, "train") as recorder:
            recorder.run_id()
            kill(server)
            recorder.epoch(1, {"loss": 1.0})
            time.sleep(OUTAGE_S)
            restart(server, address)
        complete_run(run_id, workspace, params)
        [run] = histories.client_of(workspace).search_runs(["1"])
        steps = histories.client_of(workspace).get_metric_history(run_id, "loss")
    assert run.info.status == "FINISHED"
    assert {one.step for one in steps} >= {1}


def test_a_stage_that_begins_while_mlflow_is_away_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = toys.make(tmp_path)
    params = read_params(workspace.params_file)
    history = Workspace(tmp_path / "history")
    histories.use_template(tmp_path / "mlflow.db", history)
    server = replace(mlflow_server(history), preferred_port=0)
    with served(server) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        for name, value in histories.let_in(history).items():
            monkeypatch.setenv(name, value)
        run_id = open_run(workspace, params)
        monkeypatch.setenv(RUN_ID_VARIABLE, run_id)
        kill(server)
        with stage_recorder(workspace, params, "train") as recorder:
            recorder.epoch(1, {"loss": 1.0})
            time.sleep(OUTAGE_S)
            restart(server, address)
            assert recorder.run_id() == run_id
        complete_run(run_id, workspace, params, status="FAILED")
    said = (workspace.var / "mlflow" / "recorder.log").read_text()
    assert "does not answer; waiting for it" in said
    assert "answers again" in said
