"""Two projects on one Prefect server do not get into each other's way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound

from graftline.core.workspace import Workspace
from graftline.orchestration import deployments
from tests.flows.toy import CHECKOUT

pytestmark = pytest.mark.slow


@pytest.fixture
def projects(tmp_path: Path) -> list[Workspace]:
    made = [Workspace(tmp_path / place / "digits") for place in ("a", "b")]
    for one in made:
        one.root.mkdir(parents=True)
        shutil.copy(CHECKOUT / deployments.FILE, one.root)
        shutil.copytree(CHECKOUT / "flows", one.root / "flows")
        shutil.copytree(CHECKOUT / "tasks", one.root / "tasks")
    return made


def names(kind: str) -> set[str]:
    with get_client(sync_client=True) as client:
        if kind == "pools":
            return {one.name for one in client.read_work_pools()}
        return {one.name for one in client.read_deployments()}


def test_each_has_deployments_and_pools_of_its_own(
    projects: list[Workspace], prefect_api: str
) -> None:
    for one in projects:
        deployments.ensure_pools(one)
        deployments.apply_all(one, prefect_api)
    wanted = [entry for one in projects for entry in deployments.deployments(one)]
    assert len({entry.name for entry in wanted}) == len(wanted) == 4
    assert {entry.name for entry in wanted} <= names("deployments")
    assert {entry.pool for entry in wanted} <= names("pools")
    with get_client(sync_client=True) as client:
        for entry in wanted:
            found = client.read_deployment_by_name(f"{entry.flow}/{entry.name}")
            assert found.work_pool_name == entry.pool
            assert found.schedules


def test_names_of_before_are_removed_from_an_own_server_and_told_on_another(
    projects: list[Workspace], prefect_api: str
) -> None:
    del prefect_api
    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name("retrain")
        client.create_deployment(flow_id=flow, name="nightly")
        if "graftline" not in names("pools"):
            client.create_work_pool(WorkPoolCreate(name="graftline", type="process"))
        # Other tests of this session may have left more of them on the server.
        told = list(deployments.without_project(projects[0], own_server=False))
        assert any("prefect deployment delete retrain/nightly" in line for line in told)
        assert client.read_deployment_by_name("retrain/nightly")

        removed = list(deployments.without_project(projects[0], own_server=True))
        assert len(removed) == len(told) + 1
        with pytest.raises(ObjectNotFound):
            client.read_deployment_by_name("retrain/nightly")
    assert "graftline" not in names("pools")
