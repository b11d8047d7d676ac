"""Opening, continuing and completing runs."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from graftline.core.environment import patience_s
from graftline.core.files import scratch_folder
from graftline.core.params import Params
from graftline.core.processes import ProcessIdentity
from graftline.core.workspace import Workspace
from graftline.registry.tracking import executions, last_run_file, run_contents
from graftline.registry.tracking.runs_view import VIEW
from graftline.registry.tracking.store import Store, configure, open_client, reported

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

Status = Literal["FINISHED", "FAILED", "KILLED"]

_FILES_TAG = "graftline.files_digest"
_PROCESS_TAG = "graftline.process"
_CHECKOUT_TAG = "graftline.checkout"
_MAX_PARAM_CHARACTERS = 6000
_DIGEST_CHARACTERS = 36
_BATCH = 500


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
    # Better known now than after an hour of training.
    client, experiment_id = open_client(store, files=True)
    tags = run_contents.origin_tags(workspace, params, owner.door)
    with reported(store):
        close_abandoned(store, client)
        run = client.create_run(
            experiment_id,
            run_name=run_contents.run_name(workspace, params),
            tags=tags | _process_tags(store, owner),
        )
        _log_params(client, run, params)
    execution = executions.Execution(
        run_id=run.info.run_id,
        uri=store.shown,
        experiment=store.experiment,
        door=owner.door,
        process=owner.process,
        params=params.model_dump(mode="json", by_alias=True),
    )
    executions.keep(store, execution)
    last_run_file.keep_last_run(
        store,
        last_run_file.LastRun(
            run_id=execution.run_id,
            name=run.info.run_name or "",
            door=owner.door,
            status="RUNNING",
            uri=store.shown,
            experiment=store.experiment,
            experiment_id=experiment_id,
            runs_view=VIEW,
            process=owner.process,
            not_reproducible=run_contents.why_not_reproducible(tags),
        ),
    )
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
    whole = status == "FINISHED"
    client, _ = open_client(store, patience_s() if whole else 0.0, files=whole)
    with reported(store):
        if status == "FINISHED":
            fill(client, run_id, workspace, params, evaluated=True)
            note_cached(client, run_id, workspace, cached)
        close(store, client, run_id, status)
    executions.forget(store, run_id)


def note_cached(
    client: MlflowClient,
    run_id: str,
    workspace: Workspace,
    cached: Sequence[str],
    started: float | None = None,
) -> None:
    """Tells the run which stages were skipped, and how long the others took.

    Args:
        client: Of the run's store.
        run_id: The run.
        workspace: Where each stage notes how long it took.
        cached: The stages that were skipped.
        started: When the execution's process was, as :mod:`graftline.core.processes` counts;
            earlier notes are not its own. None takes every note for its own.
    """
    from mlflow.entities import RunTag

    taken = run_contents.seconds(workspace, cached, started)
    _log_changed(client, client.get_run(run_id), taken)
    tag = RunTag("graftline.cached_stages", ", ".join(cached) or "none")
    client.log_batch(run_id, tags=[tag])


def close(store: Store, client: MlflowClient, run_id: str, status: Status) -> None:
    """Sets how the run ended; one that stands so already keeps its time of ending."""
    if client.get_run(run_id).info.status != status:
        client.set_terminated(run_id, status)
    last_run_file.note_status(store, run_id, status)


def reopen(store: Store, client: MlflowClient, run_id: str) -> None:
    """Sets the run back to RUNNING, for the next stage of its execution."""
    client.update_run(run_id, status="RUNNING")
    last_run_file.note_status(store, run_id, "RUNNING")


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
    outputs = run_contents.read_outputs(workspace)
    _log_params(client, run, params)
    _log_dataset(client, run, params, outputs)
    _log_epochs(client, run, workspace)
    with scratch_folder() as folder:
        own = run_contents.params_file(workspace, params, folder)
        _log_files(client, run, run_contents.files(workspace, evaluated=evaluated, params_file=own))
    tags = run_contents.outcome_tags(workspace, outputs)
    tags["mlflow.note.content"] = run_contents.note(params, outputs, evaluated=evaluated)
    _log_tags(client, run_id, tags)
    _log_figures(client, run, outputs)
    _log_changed(client, run, run_contents.own_metrics(workspace))
    if evaluated and outputs.trained and outputs.metrics:
        from graftline.registry.tracking.registry import ensure_model

        model_id = ensure_model(client, run_id, workspace, outputs.trained)
        tested = run_contents.test_metrics(outputs.metrics)
        _log_changed(client, run, tested, outputs.trained.best_epoch, model_id)


def close_abandoned(store: Store, client: MlflowClient) -> list[str]:
    """Sets runs to KILLED whose process is gone; returns their ids."""
    from mlflow.exceptions import MlflowException

    closed = []
    for execution in executions.abandoned(store):
        try:
            info = client.get_run(execution.run_id).info
            if info.status == "RUNNING" and info.lifecycle_stage == "active":
                close(store, client, execution.run_id, "KILLED")
                closed.append(execution.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        executions.forget(store, execution.run_id)
    for run_id in list(_unnoted(store, client)):
        close(store, client, run_id, "KILLED")
        closed.append(run_id)
    return closed


def _unnoted(store: Store, client: MlflowClient) -> Iterator[str]:
    """Runs whose process was killed between opening them and writing that down."""
    experiment = client.get_experiment_by_name(store.experiment)
    if experiment is None:
        return
    for run in client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'"):
        tags = run.data.tags
        # A store may be shared: only who is on this machine is known to be gone.
        if _PROCESS_TAG not in tags or tags.get(_CHECKOUT_TAG) != _checkout(store):
            continue
        if not ProcessIdentity.model_validate_json(tags[_PROCESS_TAG]).alive():
            yield run.info.run_id


def _process_tags(store: Store, owner: executions.Owner) -> dict[str, str]:
    return {_PROCESS_TAG: owner.process.model_dump_json(), _CHECKOUT_TAG: _checkout(store)}


def _checkout(store: Store) -> str:
    return f"{socket.gethostname()}:{store.root}"


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
        Param(key, param_text(value))
        for key, value in params.flat().items()
        if key not in run.data.params
    ]
    if missing:
        client.log_batch(run.info.run_id, params=missing)


def param_text(value: object) -> str:
    """A parameter as a run has it."""
    # As in params.yaml, where True and None would be texts.
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:_MAX_PARAM_CHARACTERS]


def _log_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def _log_epochs(client: MlflowClient, run: Run, workspace: Workspace) -> None:
    from mlflow.entities import Metric

    rows = run_contents.epochs(workspace)
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


def _log_figures(client: MlflowClient, run: Run, outputs: run_contents.Outputs) -> None:
    """Those that ``freeze.strategy: auto`` decided by, and those of exported files, if any."""
    figures: dict[str, float] = {}
    if outputs.verdict:
        figures |= run_contents.verdict_metrics(outputs.verdict)
    if outputs.exports:
        figures |= run_contents.export_metrics(outputs.exports, outputs.speeds)
    _log_changed(client, run, figures)


def _log_changed(
    client: MlflowClient,
    run: Run,
    values: Mapping[str, float],
    step: int = 0,
    model_id: str | None = None,
) -> None:
    """Logs the metrics that the run does not stand at already."""
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    changed = [
        Metric(name, value, now_ms, step, model_id=model_id)
        for name, value in values.items()
        if run.data.metrics.get(name) != value
    ]
    if changed:
        client.log_batch(run.info.run_id, metrics=changed)


def _log_dataset(
    client: MlflowClient, run: Run, params: Params, outputs: run_contents.Outputs
) -> None:
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
    digest = run_contents.files_digest(found)
    run_id = run.info.run_id
    if run.data.tags.get(_FILES_TAG) == digest:
        return
    for path, folder in found:
        client.log_artifact(run_id, str(path), folder or None)
    client.set_tag(run_id, _FILES_TAG, digest)
