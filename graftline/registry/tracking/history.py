"""A run of the past: what it was made from, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graftline.core.workspace import Workspace
from graftline.registry.tracking.store import configure, open_client, reported

_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class PastRun:
    """What the history says of a run."""

    run_id: str
    name: str
    status: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


def find_run(workspace: Workspace, run_id: str) -> PastRun | None:
    """A run, or None if there is none of this id.

    Raises:
        TrackingError: If the store cannot be used.
    """
    from mlflow.exceptions import MlflowException

    store = configure(workspace)
    client, _ = open_client(store)
    with reported(store):
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code in _ABSENT:
                return None
            raise
    return PastRun(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        tags=dict(run.data.tags),
        metrics=dict(run.data.metrics),
    )
