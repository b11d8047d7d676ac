"""Makes sure that Prefect's server has written down how a flow ended, before anybody leaves.

Task states travel as events, which the server records some moments later; a server that is
stopped, or a process that ends, at once after its flow loses the last of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

_POLL_S = 0.1


def settle(
    flow_run_id: str | None,
    task_run_ids: Iterable[str],
    say: Callable[[str], None],
    patience_s: float,
    limit_s: float = 30.0,
) -> bool:
    """Waits until the flow run and all of its task runs stand in a final state.

    An end that was told while the server was away, or by a clock that has jumped back since, does
    not arrive by itself; after ``limit_s`` it is told once more.

    Args:
        flow_run_id: The flow run; None if there was none.
        task_run_ids: Every task run that was begun.
        say: Told that there is any waiting for the server.
        patience_s: How long to wait for a server that does not answer, in seconds.
        limit_s: How long to wait, in seconds.

    Returns:
        Whether they do.
    """
    if flow_run_id is None:
        return True
    from graftline.orchestration.retry import patiently

    settled = patiently(lambda: _settled(flow_run_id, task_run_ids, limit_s), say, patience_s)
    if settled is None:
        return False
    return settled or bool(patiently(lambda: _tell_again(flow_run_id), say, patience_s))


def _settled(flow_run_id: str, task_run_ids: Iterable[str], limit_s: float) -> bool:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    wanted = {UUID(run) for run in task_run_ids}
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(flow_run_id)]))
    until = time.monotonic() + limit_s
    with get_client(sync_client=True) as client:
        while time.monotonic() < until:
            flow_state = client.read_flow_run(UUID(flow_run_id)).state
            runs = client.read_task_runs(flow_run_filter=chosen)
            ended = {run.id for run in runs if run.state and run.state.is_final()}
            if flow_state and flow_state.is_final() and wanted <= ended:
                return True
            time.sleep(_POLL_S)
    return False


def _tell_again(flow_run_id: str) -> bool:
    """Ends each task of an ended flow that seems to run still."""
    from prefect import State
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.states import Completed, Crashed

    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(flow_run_id)]))
    with get_client(sync_client=True) as client:
        flow_state = client.read_flow_run(UUID(flow_run_id)).state
        if flow_state is None or not flow_state.is_final():
            return False
        # The tasks of a flow that completed have all completed; of others it is not known.
        message = "told again: the first time was lost"
        for run in client.read_task_runs(flow_run_filter=chosen):
            if run.state is None or not run.state.is_final():
                told: State[Any] = (
                    Completed(message=message)
                    if flow_state.is_completed()
                    else Crashed(message=message)
                )
                client.set_task_run_state(run.id, told, force=True)
    return True


def flush_logs() -> None:
    """Sends what is left of the run's logs, and the last events."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=5)
