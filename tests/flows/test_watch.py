"""A changed source is announced once, and what is to run then is run."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun

from flows.watch import watch
from graftline.core.errors import ServerError
from graftline.core.workspace import Workspace
from graftline.orchestration import abandoned
from graftline.orchestration.trigger import ensure_trigger, remove_trigger


@flow(name="stand-in")
def stand_in() -> None: ...


def runs_of(deployment: UUID) -> list[FlowRun]:
    chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(deployment_filter=chosen)


def looked(place: Path) -> str:
    state = watch(str(place), settle_s=0.0, return_state=True)
    assert state.is_completed(), state
    return state.message or ""


def test_a_change_runs_the_deployment_once(
    prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    workspace = Workspace(tmp_path)
    place = tmp_path / "images"
    place.mkdir()
    with pytest.raises(ServerError, match="no deployment stand-in/here"):
        ensure_trigger(workspace, "stand-in/here")
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(stand_in)
        deployment = client.create_deployment(flow_id, "here")
    name = ensure_trigger(workspace, "stand-in/here")
    assert ensure_trigger(workspace, "stand-in/here") == name
    with get_client(sync_client=True) as client:
        assert len(client.read_automations_by_name(name)) == 1

    assert looked(place) == f"{place} is seen for the first time"
    assert looked(place) == f"{place} holds what it held"
    (place / "one.png").write_bytes(b"1")
    assert looked(place) == f"{place} has changed"
    assert looked(place) == f"{place} holds what it held"
    until = time.monotonic() + 60
    while not (started := runs_of(deployment)) and time.monotonic() < until:
        time.sleep(0.2)
    assert len(started) == 1
    assert remove_trigger(workspace)
    assert not remove_trigger(workspace)
    # Each look has written down its process, which is this one.
    records = list((workspace.var / "flow_runs").glob("*.json"))
    assert len(records) == 4
    assert all(abandoned.Begun.read(path).process.alive() for path in records)
