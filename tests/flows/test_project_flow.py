"""A flow of the project is Prefect's own but for the first thing that it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.flows import load_flow_from_entrypoint
from prefect.runtime import flow_run
from prefect.states import Running

from graftline.core.processes import ProcessIdentity
from graftline.core.workspace import Workspace
from graftline.orchestration.abandoned import Begun
from graftline.orchestration.project_flow import project_flow
from graftline.orchestration.settle import flush_logs


def plain(times: int, word: str = "so") -> str:
    """Says a word.

    Args:
        times: How often.
    """
    return f"{flow_run.id} {word * times}"


async def later() -> None: ...


@pytest.fixture
def workspace(
    prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    yield Workspace(tmp_path)
    # While the server is there: what is left over would be tried for a minute at the end.
    flush_logs()


def recorded(workspace: Workspace) -> dict[str, Begun]:
    return {path.stem: Begun.read(path) for path in (workspace.var / "flow_runs").glob("*.json")}


def test_prefect_sees_the_function_as_it_stands() -> None:
    made, prefects = project_flow(name="plain")(plain), Flow(plain, name="plain")
    for one in (made, made.with_options(retries=2)):
        assert (one.name, one.__name__, one.__doc__) == ("plain", "plain", plain.__doc__)
        assert one.version == prefects.version
        assert one.parameters == prefects.parameters
        assert one._entrypoint == prefects._entrypoint
        assert one.validate_parameters({"times": "3"})["times"] == 3
        assert not one.isasync
    of_later = project_flow(name="later")(later)
    assert of_later.isasync and of_later.with_options(retries=2).isasync


def test_its_process_is_written_down_first_whoever_calls_it(workspace: Workspace) -> None:
    made = project_flow(name="plain")(plain)
    said = [made.with_options(retries=1)(times=2)]

    @flow(name="around")
    def around() -> str:
        return made(2)

    said.append(around())
    begun = recorded(workspace)
    assert {one.split()[0] for one in said} == begun.keys()
    assert all(one.endswith(" soso") for one in said)
    me = ProcessIdentity.of()
    assert all(one.process == me for one in begun.values())
    # The run of the user's own flow is closed with it after a kill.
    assert sorted(len(one.flow_run_ids) for one in begun.values()) == [1, 2]


@pytest.mark.parametrize("entrypoint", ["flows/watch.py:watch", "flows.watch.watch"])
def test_a_deployments_run_is_written_down_and_closes_one_that_was_killed(
    workspace: Workspace,
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    entrypoint: str,
) -> None:
    from prefect.flow_engine import run_flow

    monkeypatch.chdir(checkout)
    watch = load_flow_from_entrypoint(entrypoint)
    monkeypatch.chdir(workspace.root)
    here = {"place": str(workspace.root), "settle_s": 0.0}
    with get_client(sync_client=True) as client:
        killed = client.create_flow_run(watch, state=Running())
        deployed = client.create_flow_run(watch, parameters=here)
    gone = ProcessIdentity.of().model_copy(update={"boot": "another"})
    from graftline.orchestration.abandoned import _api

    begun = Begun(flow_run_ids=(str(killed.id),), api=_api(workspace), process=gone)
    begun.write(workspace.var / "flow_runs" / f"{killed.id}.json")

    # As the process does that a worker starts for a run.
    run_flow(watch, flow_run=deployed, return_type="state")

    assert recorded(workspace).keys() == {str(deployed.id)}
    assert f"flow run {killed.name} was set to Crashed" in capsys.readouterr().out
    assert _state(killed.id) == "Crashed" and _state(deployed.id) == "Completed"


def _state(run: UUID) -> str | None:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run).state_name
