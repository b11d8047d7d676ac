"""Opening, continuing and completing runs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from graftline.params import Params
from graftline.tracking import contents, executions
from graftline.tracking.store import Store, configure, open_client, reported
from graftline.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

Status = Literal["FINISHED", "FAILED", "KILLED"]

_FILES_TAG = "graftline.files_digest"
_MAX_PARAM_CHARACTERS = 6000
_DIGEST_CHARACTERS = 36
_BATCH = 500


@dataclass(frozen=True)
class LastRun:
    """The newest run of the experiment."""

    run_id: str
    name: str
    status: str
    started_s: float
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


def open_run(workspace: Workspace, params: Params, door: executions.Door = "flow") -> str:
    """Opens a run that this process holds until :func:`complete_run`.

    Runs that a process left open when it died are closed as KILLED first.

    Returns:
        The run's id, for GRAFTLINE_RUN_ID in the environment of the stages.

    Raises:
        TrackingError: If the store cannot be used.
    """
    return start(workspace, params, executions.this_process(door)).run_id


def start(workspace: Workspace, params: Params, owner: executions.Owner) -> executions.Execution:
    """Opens a run that belongs to ``owner``."""
    store = configure(workspace)
    client, experiment_id = open_client(store)
    with reported(store):
        close_abandoned(store, client)
        run = client.create_run(
            experiment_id,
            run_name=contents.run_name(params),
            tags=contents.origin_tags(workspace, params, owner.door),
        )
        _log_params(client, run, params)
    execution = executions.Execution(
        run_id=run.info.run_id,
        uri=store.shown,
        experiment=store.experiment,
        door=owner.door,
        pid=owner.pid,
        started_s=owner.started_s,
    )
    executions.keep(store, execution)
    return execution


def complete_run(
    run_id: str,
    workspace: Workspace,
    params: Params,
    cached: Sequence[str] = (),
    status: Status = "FINISHED",
) -> None:
    """Logs from the output files whatever the run lacks, and closes it. Calling it again is safe.

    Args:
        run_id: The run.
        workspace: Where the outputs lie.
        params: The parameters that they were made with.
        cached: The stages that were skipped since nothing had changed.
        status: What the run stands at afterwards. Only for FINISHED are the outputs those of
            this run, and logged.

    Raises:
        TrackingError: If the store cannot be used, or has no such run.
    """
    store = configure(workspace)
    client, _ = open_client(store)
    with reported(store):
        if status == "FINISHED":
            fill(client, run_id, workspace, params, evaluated=True)
            client.set_tag(run_id, "graftline.cached_stages", ", ".join(cached) or "none")
        if client.get_run(run_id).info.status != status:
            client.set_terminated(run_id, status)
    executions.forget(store, run_id)


def fill(
    client: MlflowClient, run_id: str, workspace: Workspace, params: Params, *, evaluated: bool
) -> None:
    """Logs what the run lacks.

    Args:
        client: Of the run's store.
        run_id: The run.
        workspace: Where the outputs lie.
        params: The parameters that they were made with.
        evaluated: Whether metrics and plots belong to the trained model that lies there.
    """
    run = client.get_run(run_id)
    outputs = contents.read_outputs(workspace)
    _log_params(client, run, params)
    _log_dataset(client, run, params, outputs)
    _log_epochs(client, run, workspace)
    _log_files(client, run, contents.files(workspace, evaluated=evaluated))
    tags = contents.outcome_tags(workspace, outputs)
    tags["mlflow.note.content"] = contents.note(params, outputs, evaluated=evaluated)
    _log_tags(client, run_id, tags)
    if evaluated and outputs.trained and outputs.metrics:
        from graftline.tracking.registry import ensure_model

        model_id = ensure_model(client, run_id, workspace, outputs.trained)
        _log_test_metrics(client, run, outputs, model_id)


def close_abandoned(store: Store, client: MlflowClient) -> list[str]:
    """Sets runs to KILLED whose process is gone; returns their ids."""
    from mlflow.exceptions import MlflowException

    closed = []
    for execution in executions.abandoned(store):
        try:
            if client.get_run(execution.run_id).info.status == "RUNNING":
                client.set_terminated(execution.run_id, "KILLED")
                closed.append(execution.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        executions.forget(store, execution.run_id)
    return closed


def last_run(workspace: Workspace) -> LastRun | None:
    """The newest run of the experiment, or None.

    Raises:
        TrackingError: If the store cannot be used.
    """
    store = configure(workspace)
    client, experiment_id = open_client(store)
    with reported(store):
        runs = client.search_runs(
            [experiment_id], order_by=["attributes.start_time DESC"], max_results=1
        )
    if not runs:
        return None
    info, data = runs[0].info, runs[0].data
    return LastRun(
        run_id=info.run_id,
        name=info.run_name or "",
        status=info.status,
        started_s=info.start_time / 1000,
        metrics=dict(data.metrics),
        tags=dict(data.tags),
    )


def log_epoch(client: MlflowClient, run_id: str, epoch: int, values: Mapping[str, float]) -> None:
    """Logs one epoch's metrics in one request."""
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    client.log_batch(
        run_id, metrics=[Metric(name, value, now_ms, epoch) for name, value in values.items()]
    )


def _log_params(client: MlflowClient, run: Run, params: Params) -> None:
    from mlflow.entities import Param

    missing = [
        Param(key, _param_text(value))
        for key, value in params.flat().items()
        if key not in run.data.params
    ]
    if missing:
        client.log_batch(run.info.run_id, params=missing)


def _param_text(value: object) -> str:
    # As in params.yaml, where True and None would be texts.
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:_MAX_PARAM_CHARACTERS]


def _log_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def _log_epochs(client: MlflowClient, run: Run, workspace: Workspace) -> None:
    from mlflow.entities import Metric

    rows = contents.epochs(workspace)
    names = sorted({name for _, values in rows for name in values})
    run_id = run.info.run_id
    logged = {
        name: {one.step for one in client.get_metric_history(run_id, name)}
        for name in names
        if name in run.data.metrics
    }
    now_ms = int(time.time() * 1000)
    missing = [
        Metric(name, value, now_ms, epoch)
        for epoch, values in rows
        for name, value in values.items()
        if epoch not in logged.get(name, ())
    ]
    for first in range(0, len(missing), _BATCH):
        client.log_batch(run_id, metrics=missing[first : first + _BATCH])


def _log_test_metrics(
    client: MlflowClient, run: Run, outputs: contents.Outputs, model_id: str
) -> None:
    from mlflow.entities import Metric

    if outputs.metrics is None or outputs.trained is None:
        return
    now_ms = int(time.time() * 1000)
    changed = [
        Metric(name, value, now_ms, outputs.trained.best_epoch, model_id=model_id)
        for name, value in contents.test_metrics(outputs.metrics).items()
        if run.data.metrics.get(name) != value
    ]
    if changed:
        client.log_batch(run.info.run_id, metrics=changed)


def _log_dataset(client: MlflowClient, run: Run, params: Params, outputs: contents.Outputs) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if outputs.dataset is None:
        return
    digest = outputs.dataset.digest[:_DIGEST_CHARACTERS]
    known = run.inputs.dataset_inputs if run.inputs else []
    if any(one.dataset.digest == digest for one in known):
        return
    # MLflow knows two kinds of source that fit: a place on this machine, and code.
    path = params.data.path
    source = {"uri": path} if path else {"tags": {"source": params.data.source}}
    dataset = Dataset(
        name=outputs.dataset.source,
        digest=digest,
        source_type="local" if path else "code",
        source=json.dumps(source),
        profile=json.dumps(outputs.dataset.model_dump(mode="json", include={"counts", "digest"})),
    )
    client.log_inputs(
        run.info.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
    )


def _log_files(client: MlflowClient, run: Run, found: list[tuple[Path, str]]) -> None:
    digest = contents.files_digest(found)
    run_id = run.info.run_id
    if run.data.tags.get(_FILES_TAG) == digest:
        return
    for path, folder in found:
        client.log_artifact(run_id, str(path), folder or None)
    client.set_tag(run_id, _FILES_TAG, digest)
