"""Flow runs whose process was killed: Prefect would show them as running for ever.

Each flow run writes down which process it is in. The next start of any flow looks through these
records: whose process is gone, and who has come to no end, is set to Crashed with all its tasks. A
run removes no record of its own, since it could be killed between that and telling of its end.
"""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from graftline.core.environment import prefect_address
from graftline.core.processes import ProcessIdentity
from graftline.core.records import Record
from graftline.core.redaction import without_secrets
from graftline.core.workspace import Workspace
from graftline.operations import servers
from graftline.orchestration.api_health import asked_of

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

MESSAGE = "its process is gone, and could not say so itself"
PENDING_LIMIT_S = 600.0
"""How long a run may be on its way to a process before it is taken for lost."""
UNKNOWN_LIMIT_S = 60.0
"""How long a run may be at work without having written down its process."""
ACCOUNTED = ("train", "retrain", "watch", "predict")
"""The project's flows, each of which calls :func:`account` first of all."""
OWN = "own"
"""What stands for the address of the server under ``var/``, whose port changes."""

_log = logging.getLogger(__name__)


class Begun(Record):
    """``var/flow_runs/<id>.json``: a flow run and the process that it is in."""

    flow_run_ids: tuple[str, ...]
    """It, and the one that it is a part of."""
    api: str
    """Whom it was told to."""
    process: ProcessIdentity


def told(name: str) -> str:
    """What is said of a run that was closed."""
    return f"flow run {name} was set to Crashed: {MESSAGE}"


def account(workspace: Workspace, say: Callable[[str], None]) -> None:
    """Writes down which process the present flow run is in, and closes those that are gone.

    A second call in the same run does nothing.

    Args:
        workspace: The flow's.
        say: Told of each run that was closed.

    Raises:
        StorageFullError: If the disk is full.
    """
    from prefect.runtime import flow_run

    path = _folder(workspace) / f"{flow_run.id}.json"
    if (known := Begun.find(path)) and known.process.alive():
        return
    ids = [flow_run.id, flow_run.root_flow_run_id]
    begun = Begun(
        flow_run_ids=tuple(dict.fromkeys(str(one) for one in ids if one)),
        api=_api(workspace),
        process=ProcessIdentity.of(),
    )
    begun.write(path)
    for name in close_abandoned(workspace):
        say(told(name))


def close_abandoned(workspace: Workspace) -> list[str]:
    """Sets the flow runs whose process is gone to Crashed, and their open tasks too.

    It may be called at any time; living runs are told by their processes. A server that does
    not answer is asked again at the next start.

    Returns:
        The names of the runs that were closed.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectException

    api = _api(workspace)
    closed: list[str] = []
    try:
        with get_client(sync_client=True) as client:
            known: set[UUID] = set()
            for path, begun in _records(workspace):
                ids = [UUID(one) for one in begun.flow_run_ids]
                if begun.process.alive():
                    # Whatever name it calls the server by.
                    known.update(ids)
                    continue
                if begun.api != api:
                    continue
                if any(_comes_again(client, one) for one in ids):
                    continue
                closed += [name for one in ids if (name := _crash(client, one))]
                path.unlink(missing_ok=True)
            closed += _close_lost(client, known, whole=api == OWN)
    except (httpx.HTTPError, PrefectException, OSError) as error:
        said = without_secrets(str(error))
        _log.warning("runs whose process is gone could not be closed: %s", said)
    return closed


def _comes_again(client: SyncPrefectClient, flow_run_id: UUID) -> bool:
    """Whether a worker will start the run anew: it waits for its next try, or was asked for one."""
    from prefect.exceptions import ObjectNotFound

    try:
        flow_run = client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return False
    scheduled = flow_run.state is not None and flow_run.state.is_scheduled()
    return scheduled and flow_run.deployment_id is not None


def _crash(client: SyncPrefectClient, flow_run_id: UUID) -> str | None:
    """Sets a run and its parts to Crashed unless they have ended; its name if it had not."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterId,
        FlowRunFilterParentFlowRunId,
    )
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    try:
        flow_run = client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return None
    parts = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run_id]))
    for part in client.read_flow_runs(flow_run_filter=parts):
        _crash(client, part.id)
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    for run in client.read_task_runs(flow_run_filter=chosen):
        if run.state is None or not run.state.is_final():
            client.set_task_run_state(run.id, Crashed(message=MESSAGE), force=True)
    if flow_run.state is not None and flow_run.state.is_final():
        return None
    client.set_flow_run_state(flow_run_id, Crashed(message=MESSAGE), force=True)
    return flow_run.name


def _close_lost(client: SyncPrefectClient, known: set[UUID], *, whole: bool) -> list[str]:
    """Closes what was killed before it could write down its process.

    Args:
        client: Of the server.
        known: Runs whose process lives.
        whole: Whether all that the server knows is of this checkout. Else a run at work may be
            another's, on another machine, and only those that never began are looked at.
    """
    closed = []
    for flow_run in _open_runs(client):
        state = flow_run.state
        if state is None or flow_run.id in known or flow_run.parent_task_run_id is not None:
            continue
        age_s = (datetime.datetime.now(datetime.UTC) - state.timestamp).total_seconds()
        lost = age_s > PENDING_LIMIT_S if state.is_pending() else whole and age_s > UNKNOWN_LIMIT_S
        if lost and (name := _crash(client, flow_run.id)):
            closed.append(name)
    return closed


def _open_runs(client: SyncPrefectClient) -> list[FlowRun]:
    from prefect.client.schemas.filters import (
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    kinds = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=list(ACCOUNTED))),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=kinds))
        ),
    )


def _api(workspace: Workspace) -> str:
    from prefect.settings import PREFECT_API_URL

    address = str(PREFECT_API_URL.value() or "")
    own = servers.address(servers.prefect_server(workspace))
    if not address or (own is not None and address.startswith(f"{own}/")):
        return OWN
    # Without a password, which may stand before the host.
    scheme, separator, rest = address.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _records(workspace: Workspace) -> Iterator[tuple[Path, Begun]]:
    for path in sorted(_folder(workspace).glob("*.json")):
        if begun := Begun.find(path):
            yield path, begun


def _folder(workspace: Workspace) -> Path:
    return workspace.var / "flow_runs"


def close_by_hand(workspace: Workspace) -> list[str]:
    """The same outside a flow: a server is started if need be.

    Returns:
        The names of the runs that were closed.
    """
    with _reached(workspace):
        return close_abandoned(workspace)


@contextmanager
def _reached(workspace: Workspace) -> Iterator[None]:
    """The server that the user has chosen, or the one under ``var/``, started if need be."""
    if prefect_address(os.environ, workspace.root) is not None:
        yield
        return
    server = servers.prefect_server(workspace, preferred_port=0)
    with servers.serving(server) as address, asked_of(server, address):
        yield
