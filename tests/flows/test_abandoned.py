"""Which runs are closed because their process is gone, and which are none of our business."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Completed, Pending, Running, State

from graftline.core.processes import ProcessIdentity
from graftline.core.workspace import Workspace
from graftline.orchestration import abandoned


@flow(name="train")
def train() -> None: ...


@flow(name="somebody else's")
def strange() -> None: ...


@pytest.fixture(scope="module")
def gone() -> ProcessIdentity:
    """A process that was, and was waited for."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        identity = ProcessIdentity.of(process.pid)
        process.kill()
    return identity


def begin(
    workspace: Workspace,
    process: ProcessIdentity | None,
    state: State | None = None,
    api: str | None = None,
) -> UUID:
    """A run that stands in ``state``; written down if its process is known."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(train, state=state or Running())
    if process is not None:
        begun = abandoned.Begun(
            flow_run_ids=(str(run.id),), api=api or abandoned._api(workspace), process=process
        )
        begun.write(workspace.var / "flow_runs" / f"{run.id}.json")
    return run.id


def state_of(run: UUID) -> str:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run).state_name or ""


def recorded(workspace: Workspace) -> set[str]:
    return {path.stem for path in (workspace.var / "flow_runs").glob("*.json")}


def test_only_those_are_closed_whose_process_is_gone(
    prefect_api: str, tmp_path: Path, gone: ProcessIdentity
) -> None:
    workspace = Workspace(tmp_path)
    dead = begin(workspace, gone)
    other_boot = ProcessIdentity.of().model_copy(update={"boot": "another"})
    rebooted = begin(workspace, other_boot)
    living = begin(workspace, ProcessIdentity.of())
    ended = begin(workspace, gone, Completed())
    elsewhere = begin(workspace, gone, api="http://127.0.0.1:1/api")
    (workspace.var / "flow_runs" / "half.json").write_text("{")
    assert len(abandoned.close_abandoned(workspace)) == 2
    assert [state_of(one) for one in (dead, rebooted)] == ["Crashed", "Crashed"]
    assert [state_of(one) for one in (living, ended)] == ["Running", "Completed"]
    # That server may be asked another day.
    assert state_of(elsewhere) == "Running"
    assert recorded(workspace) == {str(living), str(elsewhere), "half"}
    assert abandoned.close_abandoned(workspace) == []


def test_a_run_that_never_began_is_lost_after_a_while(
    prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    waiting = begin(workspace, None, Pending())
    # This server may serve others too, whose processes cannot be seen from here.
    others = begin(workspace, None)
    assert abandoned.close_abandoned(workspace) == []
    monkeypatch.setattr(abandoned, "PENDING_LIMIT_S", 0.0)
    monkeypatch.setattr(abandoned, "UNKNOWN_LIMIT_S", 0.0)
    abandoned.close_abandoned(workspace)
    assert state_of(waiting) == "Crashed"
    assert state_of(others) == "Running"


def test_on_a_server_of_ones_own_a_run_without_a_process_is_lost(
    prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    monkeypatch.setattr(abandoned, "_api", lambda _: abandoned.OWN)
    monkeypatch.setattr(abandoned, "UNKNOWN_LIMIT_S", 0.0)
    unknown, living = begin(workspace, None), begin(workspace, ProcessIdentity.of())
    with get_client(sync_client=True) as client:
        strangers = client.create_flow_run(strange, state=Running()).id
    abandoned.close_abandoned(workspace)
    assert state_of(unknown) == "Crashed"
    assert [state_of(one) for one in (living, strangers)] == ["Running", "Running"]


def test_a_server_that_does_not_answer_stops_nobody(
    tmp_path: Path, gone: ProcessIdentity, caplog: pytest.LogCaptureFixture
) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    workspace = Workspace(tmp_path)
    silent = "http://127.0.0.1:9/api"
    with temporary_settings({PREFECT_API_URL: silent, PREFECT_CLIENT_MAX_RETRIES: 0}):
        begun = abandoned.Begun(flow_run_ids=(str(UUID(int=1)),), api=silent, process=gone)
        begun.write(workspace.var / "flow_runs" / "one.json")
        assert abandoned.close_abandoned(workspace) == []
    assert "could not be closed" in caplog.text
    assert recorded(workspace) == {"one"}


def test_a_password_is_not_written_down(tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "https://ann:s3cret@example.org/api"}):
        assert abandoned._api(Workspace(tmp_path)) == "https://example.org/api"
