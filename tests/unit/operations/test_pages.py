from __future__ import annotations

from pathlib import Path

import pytest

from graftline.core.workspace import Workspace
from graftline.operations import ui
from graftline.operations.pages import pages_of_last_run
from graftline.registry import tracking
from tests import finished

PARAMS = finished.some_params()


@pytest.fixture
def ran(tracked: Workspace) -> tuple[Workspace, str]:
    run_id = tracking.open_run(tracked, PARAMS)
    tracking.complete_run(run_id, tracked, PARAMS)
    tracking.note_flow_run(tracked, run_id, "a-flow-run")
    return tracked, run_id


def test_the_last_run_is_named_by_its_pages(ran: tuple[Workspace, str]) -> None:
    workspace, run_id = ran
    assert pages_of_last_run(workspace) == [
        ("flow run", "http://127.0.0.1:4200/runs/flow-run/a-flow-run"),
        (
            "results",
            f"http://127.0.0.1:5000/#/experiments/1/runs/{run_id}?workflowType=machine_learning",
        ),
    ]


def test_servers_of_the_users_are_named_with_the_pages_of_the_runs(
    ran: tuple[Workspace, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, run_id = ran
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    assert ui.run_ui(workspace) == 0
    assert capsys.readouterr().out.split() == [
        "Prefect",
        "http://prefect.example/runs/flow-run/a-flow-run",
        "MLflow",
        "http://mlflow.example/#/experiments/1/runs?workflowType=machine_learning"
        "&viewStateShareKey=graftline",
        f"http://mlflow.example/#/experiments/1/runs/{run_id}?workflowType=machine_learning",
    ]


def test_without_a_run_there_is_no_page_of_one(tmp_path: Path) -> None:
    assert pages_of_last_run(Workspace(tmp_path)) == []
