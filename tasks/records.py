"""Makes sure that Prefect's server has written down how a flow ended, before anybody leaves.

Task states travel as events, which the server records some moments later; a server that is
stopped, or a process that ends, at once after its flow loses the last of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from uuid import UUID

_POLL_S = 0.1


def settle(flow_run_id: str | None, task_run_ids: Iterable[str], limit_s: float = 30.0) -> bool:
    """Waits until the flow run and all of its task runs stand in a final state.

    Args:
        flow_run_id: The flow run; None if there was none.
        task_run_ids: Every task run that was begun.
        limit_s: How long to wait, in seconds.

    Returns:
        Whether they do.
    """
    if flow_run_id is None:
        return True
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


def flush_logs() -> None:
    """Sends what is left of the run's logs, and the last events."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=5)
