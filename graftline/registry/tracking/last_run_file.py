"""The last run of this checkout as a small file, for who wants no MLflow to answer."""

from __future__ import annotations

from graftline.core.processes import ProcessIdentity
from graftline.core.records import Record
from graftline.core.workspace import Workspace
from graftline.registry.tracking.store import Store, configure


class LastRun(Record):
    """``var/mlflow/last_run.json``."""

    run_id: str
    name: str
    door: str
    status: str
    """RUNNING, FINISHED, FAILED or KILLED."""
    uri: str
    """The store's address without a password."""
    experiment: str
    experiment_id: str = ""
    """Its number in the store; empty in a file of an earlier version."""
    runs_view: str = ""
    """The view of its runs that the experiment has; empty in a file of an earlier version."""
    flow_run_id: str | None = None
    """Prefect's, of the flow that has come to the end of this run."""
    process: ProcessIdentity
    """Of the execution."""
    not_reproducible: str | None = None
    """Why it cannot be run again as it was; None if it can."""

    @property
    def warning(self) -> str | None:
        """A sentence for the end of a run that cannot be reproduced, with what to do."""
        if self.not_reproducible is None:
            return None
        return f"this run cannot be reproduced: {self.not_reproducible}; commit before the next one"

    @property
    def interrupted(self) -> bool:
        """Whether its process died without closing it; the next execution will."""
        return self.status == "RUNNING" and not self.process.alive()


def last_run(workspace: Workspace) -> LastRun | None:
    """The last run that this checkout opened, or None."""
    return LastRun.find(configure(workspace).last_run)


def keep_last_run(store: Store, run: LastRun) -> None:
    """Writes down the run that was opened last."""
    run.write(store.last_run)


def note_flow_run(workspace: Workspace, run_id: str, flow_run_id: str | None) -> None:
    """Notes which flow run it was, if it is the last one."""
    store = configure(workspace)
    run = LastRun.find(store.last_run)
    if run is not None and run.run_id == run_id:
        run.model_copy(update={"flow_run_id": flow_run_id}).write(store.last_run)


def note_status(store: Store, run_id: str, status: str) -> None:
    """Notes how the run stands now, if it is the last one."""
    run = LastRun.find(store.last_run)
    if run is not None and run.run_id == run_id and run.status != status:
        run.model_copy(update={"status": status}).write(store.last_run)
