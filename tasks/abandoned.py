"""Flow runs whose process was killed: Prefect would show them as running for ever."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from pydantic import ValidationError

from graftline.artifacts import Record
from graftline.storage import write_text
from graftline.workspace import Workspace

_MESSAGE = "its process is gone, and could not say so itself"


class _Began(Record):
    """``var/flow_run.json``: the flow run that holds the pipeline."""

    flow_run_id: str


def note_beginning(workspace: Workspace, flow_run_id: str) -> None:
    """Writes down which flow run holds the pipeline."""
    write_text(_file(workspace), _Began(flow_run_id=flow_run_id).model_dump_json() + "\n")


def note_end(workspace: Workspace) -> None:
    """The flow run has come to its end by itself."""
    _file(workspace).unlink(missing_ok=True)


def close_abandoned(workspace: Workspace) -> None:
    """Sets the flow run that was begun and never ended to Crashed, and its open tasks too.

    Call it while holding the pipeline: then whoever wrote of its beginning is gone.
    """
    try:
        text = _file(workspace).read_text(encoding="utf-8")
        flow_run_id = UUID(_Began.model_validate_json(text).flow_run_id)
    except (OSError, ValidationError, ValueError):
        return
    _crash(flow_run_id)
    note_end(workspace)


def _crash(flow_run_id: UUID) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        try:
            flow_run = client.read_flow_run(flow_run_id)
        except ObjectNotFound:
            # It was told to another server, or has been deleted.
            return
        for run in client.read_task_runs(flow_run_filter=chosen):
            if run.state is None or not run.state.is_final():
                client.set_task_run_state(run.id, Crashed(message=_MESSAGE), force=True)
        if flow_run.state is None or not flow_run.state.is_final():
            client.set_flow_run_state(flow_run_id, Crashed(message=_MESSAGE), force=True)


def _file(workspace: Workspace) -> Path:
    return workspace.var / "flow_run.json"
