"""A real Prefect server for the session, and a toy checkout whose pipeline has run once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterStartTime
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from graftline.core.environment import prefect_home
from graftline.core.workspace import Workspace
from graftline.operations.servers import client_environment, join, leave, prefect_server
from tests import histories
from tests.flows import toy
from tests.sharing import made_once


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server of this session's own."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    workspace = Workspace(tmp_path_factory.mktemp("prefect"))
    with pytest.MonkeyPatch.context() as patch:
        # A home of its own: no other server of the tests shares its database.
        patch.setenv("PREFECT_HOME", str(prefect_home(workspace)))
        server = prefect_server(workspace, preferred_port=0)
        # A shared machine may be slow for a while, which is no fault of what is tested.
        known = client_environment(server, join(server, limit_s=600.0))
        address, login = known["PREFECT_API_URL"], known["PREFECT_API_AUTH_STRING"]
        # To the processes that the tests start, as to a server of the user's.
        patch.setenv("PREFECT_API_AUTH_STRING", login)
        with temporary_settings({PREFECT_API_URL: address, PREFECT_API_AUTH_STRING: login}):
            yield address
        leave(server)


@dataclass(frozen=True)
class Ran:
    """A toy checkout whose flow has run."""

    workspace: Workspace
    code: int
    flow_run_id: UUID
    template: Path


def newest_begun() -> FlowRun:
    """The flow run that began last; those that are only scheduled stand behind it."""
    begun = FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False))
    with get_client(sync_client=True) as client:
        [newest] = client.read_flow_runs(
            flow_run_filter=begun, limit=1, sort=FlowRunSort.START_TIME_DESC
        )
    return newest


@pytest.fixture(scope="session")
def first_run(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The first run of the flow in a fresh toy checkout."""
    folder = tmp_path_factory.mktemp("first")
    template = made_once(tmp_path_factory, "mlflow", histories.make_template) / "mlflow.db"
    workspace = toy.make(folder / "checkout", template)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", prefect_api)
        patch.setenv("PYTHONPATH", str(toy.CHECKOUT))
        patch.chdir(workspace.root)
        from graftline.orchestration.launch import launch

        code = launch("flows.train", "train", [])
    return Ran(workspace, code, newest_begun().id, template)


@pytest.fixture
def checkout_after(
    first_run: Ran, prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    """A copy of the checkout after its first run, in which this process now is."""
    root = tmp_path / "checkout"
    shutil.copytree(first_run.workspace.root, root, symlinks=True)
    workspace = Workspace(root)
    # The copied history knows the first checkout's folder; this one starts afresh.
    shutil.rmtree(workspace.var / "mlflow")
    toy.use_history(first_run.template, workspace)
    (root / "ran.txt").unlink()
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    monkeypatch.setenv("PYTHONPATH", str(toy.CHECKOUT))
    monkeypatch.chdir(root)
    return workspace
