from __future__ import annotations

import http.server
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from mlflow.entities import Run

from graftline.core.errors import TrackingError
from graftline.core.files import sha256_file, write_text
from graftline.core.processes import ProcessIdentity
from graftline.core.records import ClassReport, Dataset, Metrics
from graftline.core.timings import Timings
from graftline.core.workspace import Workspace
from graftline.registry import tracking
from graftline.registry.tracking import executions, recorder_worker, run_contents, runs, store
from graftline.steps.register import register
from tests import finished, histories

PARAMS = finished.some_params()
# As DVC writes it where evaluate has seen what train wrote last.
LOCK = """
stages:
  train:
    outs: [{path: models/trained, md5: abc.dir}]
  evaluate:
    deps: [{path: models/trained, md5: abc.dir}]
"""


def one_run(workspace: Workspace) -> Run:
    (run,) = histories.runs_of(workspace)
    return run


def gone_process() -> ProcessIdentity:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        identity = ProcessIdentity.of(process.pid)
    return identity


def serve(workspace: Workspace, *messages: dict[str, object], **order: object) -> list[dict]:
    """Lets a worker serve a stage in this process; returns its answers."""
    first = executions.Order(
        **{
            "root": str(workspace.root),
            "params": PARAMS.model_dump(mode="json", by_alias=True),
            "stage": "train",
            "held_run_id": None,
            "owner": executions.this_process("command line"),
            **order,
        }
    )
    lines = [first.model_dump_json(), *(json.dumps(message) for message in messages)]
    answers = io.StringIO()
    answers.close = lambda: None
    recorder_worker.serve(io.StringIO("".join(line + "\n" for line in lines)), answers)
    return [json.loads(line) for line in answers.getvalue().splitlines()]


# What a run is told


def test_a_completed_run_tells_everything(tracked: Workspace) -> None:
    run_id = tracking.open_run(tracked, PARAMS)
    tracking.complete_run(run_id, tracked, PARAMS, ["load", "extract"])

    run = one_run(tracked)
    assert run.info.run_id == run_id
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "mnist-5k, block_13_expand_relu, last_blocks 2"
    assert run.data.params == {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in PARAMS.flat().items()
    }
    assert run.data.metrics["test_accuracy"] == 0.975
    assert run.data.metrics["test_f1/bright"] == 0.85
    assert run.data.metrics["validation_loss"] == 0.12
    tags = run.data.tags
    assert tags["graftline.door"] == "flow"
    assert tags["graftline.seed"] == "7"
    assert tags["graftline.cached_stages"] == "load, extract"
    assert tags["graftline.weight_digest"] == finished.digest_of("first")
    assert tags["graftline.dataset_digest"] == finished.digest_of("data")
    assert tags["graftline.backbone_digest"] == finished.digest_of("backbone")
    assert tags["graftline.base_weights_sha256"] == finished.digest_of("base")
    assert tags["graftline.dvc_lock_sha256"] == sha256_file(tracked.root / "dvc.lock")
    for package in ("graftline", "python", "tensorflow", "keras", "mlflow", "prefect", "dvc"):
        assert tags[f"graftline.version.{package}"][0].isdigit()
    assert "97.50% of 1,000 test images right" in tags["mlflow.note.content"]


def test_every_epoch_is_a_step(tracked: Workspace) -> None:
    run_id = tracking.open_run(tracked, PARAMS)
    tracking.complete_run(run_id, tracked, PARAMS)

    history = histories.client_of(tracked).get_metric_history(run_id, "validation_accuracy")
    assert [(one.step, one.value) for one in history] == [(1, 0.8), (2, 0.97), (3, 0.96)]


def test_the_data_set_is_an_input_with_a_digest(tracked: Workspace) -> None:
    run_id = tracking.open_run(tracked, PARAMS)
    tracking.complete_run(run_id, tracked, PARAMS)

    (given,) = one_run(tracked).inputs.dataset_inputs
    assert given.dataset.name == "mnist-5k"
    assert given.dataset.digest == finished.digest_of("data")[:36]
    assert json.loads(given.dataset.profile)["counts"]["test"] == {"dark": 500, "bright": 500}


def test_plots_and_tables_are_files_of_the_run(tracked: Workspace) -> None:
    run_id = tracking.open_run(tracked, PARAMS)
    tracking.complete_run(run_id, tracked, PARAMS)

    client = histories.client_of(tracked)
    names = {
        one.path
        for folder in ("", "evaluation", "freezing", "training")
        for one in client.list_artifacts(run_id, folder)
        if not one.is_dir
    }
    assert names == {
        "dvc.lock",
        "params.yaml",
        "evaluation/classes.json",
        "evaluation/confusion_matrix.png",
        "evaluation/predictions.parquet",
        "evaluation/metrics.json",
        "freezing/freeze_plan.json",
        "freezing/table.md",
        "training/history.csv",
    }


def test_completing_twice_changes_nothing(tracked: Workspace) -> None:
    run_id = tracking.open_run(tracked, PARAMS)
    tracking.complete_run(run_id, tracked, PARAMS, ["load"])
    client = histories.client_of(tracked)
    first = client.get_run(run_id)
    tracking.complete_run(run_id, tracked, PARAMS, ["load"])

    second = client.get_run(run_id)
    assert second.to_dictionary() == first.to_dictionary()
    assert len(client.get_metric_history(run_id, "loss")) == 3
    assert len(client.get_metric_history(run_id, "test_accuracy")) == 1
    assert len(client.search_logged_models([first.info.experiment_id])) == 1


def test_epochs_that_were_logged_live_are_not_logged_again(tracked: Workspace) -> None:
    run_id = tracking.open_run(tracked, PARAMS)
    serve(tracked, {"epoch": 1, "metrics": {"loss": 0.9}}, {"end": "FINISHED"}, held_run_id=run_id)
    tracking.complete_run(run_id, tracked, PARAMS)

    history = histories.client_of(tracked).get_metric_history(run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(1, 0.9), (2, 0.3), (3, 0.2)]


def test_test_metrics_are_tied_to_the_model(tracked: Workspace) -> None:
    run_id = tracking.open_run(tracked, PARAMS)
    tracking.complete_run(run_id, tracked, PARAMS)

    (model,) = histories.client_of(tracked).search_logged_models(
        [one_run(tracked).info.experiment_id]
    )
    assert model.source_run_id == run_id
    assert {one.key: one.value for one in model.metrics}["test_accuracy"] == 0.975
    assert model.status == "READY"


def test_exported_files_of_the_model_are_told(tracked: Workspace) -> None:
    finished.export(tracked)
    run_id = tracking.open_run(tracked, PARAMS)
    tracking.complete_run(run_id, tracked, PARAMS)
    metrics = one_run(tracked).data.metrics
    assert metrics["export/onnx/agreement"] == 0.9995
    assert metrics["export/onnx/size_bytes"] == 3_010_000
    assert metrics["export/onnx/images_per_second"] == 250.0
    assert (tracked.exports_report / "table.md", "exports") in run_contents.files(
        tracked, evaluated=True
    )


def test_exported_files_of_an_earlier_model_are_not_told(tracked: Workspace) -> None:
    finished.export(tracked, "earlier")
    assert run_contents.read_outputs(tracked).exports is None
    folders = {folder for _, folder in run_contents.files(tracked, evaluated=True)}
    assert "exports" not in folders


def test_a_failed_run_takes_no_results_that_are_not_its_own(tracked: Workspace) -> None:
    run_id = tracking.open_run(tracked, PARAMS)
    tracking.complete_run(run_id, tracked, PARAMS, status="FAILED")

    run = one_run(tracked)
    assert run.info.status == "FAILED"
    assert run.data.metrics == {}
    assert run.data.params["train.learning_rate"] == "0.001"


def test_the_seconds_of_the_stages_that_ran_are_told(tracked: Workspace) -> None:
    for stage, taken_s in (("load", 1.5), ("train", 20.25)):
        write_text(tracked.var / "timings" / f"{stage}.json", json.dumps({"seconds": taken_s}))
    run_id = tracking.open_run(tracked, PARAMS)
    tracking.complete_run(run_id, tracked, PARAMS, ["load"])

    metrics = one_run(tracked).data.metrics
    assert metrics["seconds/train"] == 20.25
    assert "seconds/load" not in metrics


def test_seconds_of_an_earlier_execution_are_not_told(tracked: Workspace) -> None:
    timing = tracked.var / "timings" / "load.json"
    Timings().write(tracked, "load", 1.5)
    record = json.loads(timing.read_text(encoding="utf-8"))
    write_text(timing, json.dumps({**record, "uptime_s": 0.0}))
    serve(tracked, {"end": "FINISHED"}, stage="evaluate")

    assert "seconds/load" not in one_run(tracked).data.metrics


def test_a_clock_that_jumped_back_hides_no_stage(tracked: Workspace) -> None:
    Timings().write(tracked, "load", 1.5)
    os.utime(tracked.var / "timings" / "load.json", (0, 0))
    serve(tracked, {"end": "FINISHED"}, stage="evaluate")

    run = one_run(tracked)
    assert run.data.metrics["seconds/load"] == 1.5
    assert "load" not in run.data.tags["graftline.cached_stages"]


def test_a_server_that_is_away_in_the_middle_is_waited_for(
    tracked: Workspace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = iter([OSError("refused"), OSError("refused"), None])

    def probe(_: object) -> None:
        if (problem := next(tries)) is not None:
            raise problem

    monkeypatch.setattr(store, "_probe", probe)
    monkeypatch.setattr(store, "_PROBE_EVERY_S", 0.0)
    store.open_client(store.configure(tracked), patience_s=60)

    shown = store.configure(tracked).shown
    assert caplog.messages == [
        f"the tracking store at {shown} does not answer; waiting for it, up to 60 s",
        f"the tracking store at {shown} answers again",
    ]


@pytest.mark.parametrize(
    ("status", "content", "told", "fix"),
    [
        (503, "text/html", "answers 503", "MLFLOW_BACKEND_STORE_URI"),
        (401, "text/html", "does not let this client in", "MLFLOW_TRACKING_USERNAME"),
        (403, "application/json", "does not let this client in", "MLFLOW_TRACKING_USERNAME"),
        # The page of a proxy that asks for a login, and another program's server.
        (200, "text/html", "it is none of MLflow's", "curl"),
        (404, "application/json", "it is none of MLflow's", "curl"),
    ],
)
def test_a_server_that_is_of_no_use_is_told_at_once(
    tracked: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    content: str,
    told: str,
    fix: str,
) -> None:
    class Useless(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Useless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(TrackingError, match=told) as caught:
            store.open_client(store.configure(tracked), patience_s=0 if status == 503 else 60)
        server.shutdown()
    assert caught.value.where == f"MLFLOW_TRACKING_URI: {address}"
    assert fix in str(caught.value.fix)


def test_files_are_not_sent_to_an_object_store_that_is_away(
    tracked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = tracking.open_run(tracked, PARAMS)

    def away(*_: object) -> None:
        raise OSError("its object store may be away")

    monkeypatch.setattr(store, "_probe_files", away)
    monkeypatch.setenv("GRAFTLINE_PATIENCE_S", "0")
    with pytest.raises(TrackingError, match="object store"):
        tracking.log_receipt(tracked, run_id, [tracked.params_file], {}, {})
    with pytest.raises(TrackingError, match="object store"):
        tracking.log_file(tracked, run_id, tracked.params_file, "own")


@pytest.mark.slow
def test_a_store_that_goes_away_at_the_end_costs_no_training(
    tracked: Workspace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracking.stage_recorder(tracked, PARAMS, "train") as recorder:
        recorder.run_id()
        recorder.epoch(1, {"loss": 1.0})

        end = recorder.end

        def lost(status: str) -> None:
            end(status)
            raise TrackingError("gone")

        monkeypatch.setattr(recorder, "end", lost)
    assert "the tracked run is not complete: gone" in caplog.text


def test_values_that_are_not_finite_are_left_out(tracked: Workspace) -> None:
    write_text(tracked.history, "epoch,loss,accuracy\n1,nan,0.5\n2,inf,\n")

    assert run_contents.epochs(tracked) == [(1, {"accuracy": 0.5}), (2, {})]


def test_a_class_name_of_any_kind_is_a_metric(tracked: Workspace) -> None:
    metrics = Metrics.read(tracked.metrics)
    odd = metrics.model_copy(update={"classes": {"n°5 (50%)": metrics.classes["dark"]}})

    assert "test_f1/n_x00B0_5 _x0028_50_x0025__x0029_" in run_contents.test_metrics(odd)


def test_classes_of_hostile_names_lose_nothing_in_the_store(tracked: Workspace) -> None:
    metrics = Metrics.read(tracked.metrics)
    names = ["<30", ">30", "..", "../../x", "a//b", "/a", "a" * 255, "a" * 254 + "b", "CON", "cat"]
    one = metrics.classes["dark"]
    scores = {
        name: one.model_copy(update={"f1": place / 100}) for place, name in enumerate(names, 1)
    }
    ClassReport(classes=scores).write(tracked.evaluation / "classes.json")
    dataset = Dataset.read(tracked.loaded / "dataset.json")
    long = tuple(f"{place} {'x' * 250}\0" for place in range(30))
    dataset.model_copy(update={"classes": long}).write(tracked.loaded / "dataset.json")
    params = finished.some_params()
    run_id = tracking.open_run(tracked, params)
    registered = register(tracked, params, run_id)
    tracking.complete_run(run_id, tracked, params)

    client = histories.client_of(tracked)
    logged = client.get_run(run_id).data.metrics
    found = [value for name, value in logged.items() if name.startswith("test_f1/")]
    assert sorted(found) == [place / 100 for place in range(1, 11)]
    assert logged["test_f1/_x003C_30"] == 0.01
    assert logged["test_f1/_x003E_30"] == 0.02
    assert logged["test_f1/cat"] == 0.1
    # PostgreSQL keeps no more of a version's description, and no character of code 0.
    version = client.get_model_version(registered.model_name, registered.version)
    assert len(version.description) <= 5000 and "\0" not in version.description


def test_the_name_of_a_run_is_no_longer_than_a_database_keeps(tracked: Workspace) -> None:
    params = finished.some_params()
    data = params.data.model_copy(update={"source": "folder", "path": "/" + "x" * 255})
    named = params.model_copy(update={"data": data})
    assert len(run_contents.run_name(tracked, named)) == 250


def test_the_name_of_a_run_tells_what_differs_from_the_committed_parameters(
    tracked: Workspace,
) -> None:
    def name(**train: float) -> str:
        return run_contents.run_name(tracked, finished.some_params(**train))

    usual = "mnist-5k, block_13_expand_relu, last_blocks 2"
    assert name(epochs=3) == usual, "without a commit there is nothing to differ from"
    for command in (["init", "-q"], ["add", "params.yaml"], ["commit", "-qm", "parameters"]):
        subprocess.run(["git", *command], cwd=tracked.root, check=True)
    assert name() == usual
    assert name(epochs=3, learning_rate=0.02) == (
        f"train.epochs=3, train.learning_rate=0.02, {usual}"
    )
    many = {"epochs": 3, "batch_size": 8, "learning_rate": 0.02, "label_smoothing": 0.1, "ema": 0.9}
    assert name(**many).endswith(f", 1 more, {usual}")


def test_git_tells_commit_and_dirtiness_but_for_the_lock_file(tracked: Workspace) -> None:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=tracked.root, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q", "-b", "main")
    git("add", "params.yaml", "dvc.lock")
    git("commit", "-q", "-m", "first")
    write_text(tracked.root / "dvc.lock", "changed by every run\n")
    clean = run_contents.origin_tags(tracked, PARAMS, "flow")
    write_text(tracked.params_file, "seed: 1\n")
    dirty = run_contents.origin_tags(tracked, PARAMS, "flow")

    assert clean["mlflow.source.git.commit"] == git("rev-parse", "HEAD")
    assert clean["graftline.git_commit"] == clean["mlflow.source.git.commit"]
    assert clean["graftline.git_dirty"] == "false"
    assert dirty["graftline.git_dirty"] == "true"


# Where the history lies


def test_the_default_store_lies_in_the_checkout(tmp_path: Path) -> None:
    found = tracking.configure(Workspace(tmp_path))

    assert found.uri == f"sqlite:///{tmp_path}/var/mlflow/mlflow.db"
    assert found.artifacts == tmp_path / "var" / "mlflow" / "artifacts"
    assert found.experiment == "graftline"
    assert list(tmp_path.iterdir()) == []


def test_the_users_store_and_experiment_are_respected(
    tracked: Workspace, tmp_path: Path, store_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Workspace(tmp_path / "elsewhere")
    histories.use_template(store_template, other)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other.var}/mlflow/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "digits")
    monkeypatch.chdir(tmp_path)
    tracking.open_run(tracked, PARAMS)

    client = histories.client_of(other)
    experiment = client.get_experiment_by_name("digits")
    assert len(client.search_runs([experiment.experiment_id])) == 1


def test_telemetry_and_unpickling_are_off(tmp_path: Path) -> None:
    tracking.configure(Workspace(tmp_path))

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def test_an_unreachable_server_is_an_error_at_once(
    tracked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
        started_s = time.monotonic()
        with pytest.raises(TrackingError) as caught:
            tracking.open_run(tracked, PARAMS)

    assert time.monotonic() - started_s < 10
    assert "MLFLOW_TRACKING_URI" in str(caught.value.fix)
    assert f"127.0.0.1:{port}" in str(caught.value.where)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_an_error(tracked: Workspace) -> None:
    (tracked.var / "mlflow" / "mlflow.db").write_bytes(b"this is no database, by any means")

    with pytest.raises(TrackingError, match="cannot be used"):
        tracking.open_run(tracked, PARAMS)


def test_a_deleted_experiment_says_how_to_get_it_back(tracked: Workspace) -> None:
    tracking.open_run(tracked, PARAMS)
    client = histories.client_of(tracked)
    client.delete_experiment(client.get_experiment_by_name("graftline").experiment_id)
    store._opened.cache_clear()

    with pytest.raises(TrackingError) as caught:
        tracking.open_run(tracked, PARAMS)
    assert "mlflow experiments restore" in str(caught.value.fix)


def test_a_copy_that_dvc_works_in_keeps_its_history_with_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "copy"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))

    assert tracking.configure(Workspace(copy)).root == tmp_path / "var" / "mlflow"
    assert tracking.configure(Workspace(tmp_path / "sub")).root == tmp_path / "sub/var/mlflow"


# One run for each execution


def test_stages_of_one_execution_share_a_run(tracked: Workspace) -> None:
    owner = executions.this_process("command line")
    serve(tracked, {"epoch": 1, "metrics": {"loss": 0.9}}, {"end": "FINISHED"}, owner=owner)
    after_training = one_run(tracked)
    answers = serve(tracked, {"end": "FINISHED"}, stage="evaluate", owner=owner)

    run = one_run(tracked)
    assert answers == [{"run_id": run.info.run_id}, {"ended": "FINISHED"}]
    assert after_training.info.status == "FINISHED"
    assert "test_accuracy" not in after_training.data.metrics
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test_accuracy"] == 0.975
    assert run.data.metrics["loss"] == 0.2


def test_another_execution_gets_another_run(tracked: Workspace) -> None:
    serve(tracked, {"end": "FINISHED"})
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        owner = executions.Owner(door="command line", process=ProcessIdentity.of(other.pid))
        serve(tracked, {"end": "FINISHED"}, owner=owner)
        other.communicate(b"\n")

    assert len(histories.runs_of(tracked)) == 2


@pytest.mark.parametrize(("lock", "accuracy"), [(LOCK, 0.975), ("stages: {}", None)])
def test_training_that_gave_the_same_weights_has_the_metrics_of_before(
    tracked: Workspace, lock: str, accuracy: float | None
) -> None:
    write_text(tracked.root / "dvc.lock", lock)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"]) as dvc:
        owner = executions.Owner(door="dvc repro", process=ProcessIdentity.of(dvc.pid))
        serve(tracked, {"end": "FINISHED"}, owner=owner)

    run = one_run(tracked)
    assert run.data.metrics.get("test_accuracy") == accuracy
    assert ("evaluate" in run.data.tags["graftline.cached_stages"]) is (accuracy is not None)
    assert list((tracked.var / "mlflow" / "executions").iterdir()) == []


def test_a_failed_stage_is_not_completed_after_dvc(tracked: Workspace) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"]) as dvc:
        owner = executions.Owner(door="dvc repro", process=ProcessIdentity.of(dvc.pid))
        serve(tracked, {"end": "FAILED"}, owner=owner)

    assert one_run(tracked).info.status == "FAILED"
    assert one_run(tracked).data.metrics == {}


def test_the_next_stage_sets_a_failed_run_right(tracked: Workspace) -> None:
    serve(tracked, {"end": "FAILED"})
    failed = one_run(tracked).info.status
    serve(tracked, {"end": "FINISHED"})

    assert (failed, one_run(tracked).info.status) == ("FAILED", "FINISHED")


def test_a_stage_that_is_gone_without_a_word_leaves_a_killed_run(tracked: Workspace) -> None:
    serve(tracked, {"epoch": 1, "metrics": {"loss": 0.9}})

    assert one_run(tracked).info.status == "KILLED"
    last = tracking.last_run(tracked)
    assert last is not None
    assert last.status == "KILLED"


def test_a_flow_closes_its_run_itself(tracked: Workspace) -> None:
    run_id = tracking.open_run(tracked, PARAMS)
    serve(tracked, {"epoch": 1, "metrics": {"loss": 0.9}}, held_run_id=run_id)

    assert one_run(tracked).info.status == "RUNNING"


def test_a_flow_that_died_leaves_a_killed_run(tracked: Workspace) -> None:
    owner = executions.Owner(door="flow", process=gone_process())
    dead = runs.start(tracked, PARAMS, owner)
    last = tracking.last_run(tracked)
    assert last is not None
    assert last.interrupted
    tracking.open_run(tracked, PARAMS)

    first, second = histories.runs_of(tracked)
    assert (first.info.run_id, first.info.status) == (dead.run_id, "KILLED")
    assert second.info.status == "RUNNING"


def test_a_process_killed_before_it_noted_its_run_leaves_a_killed_one(tracked: Workspace) -> None:
    owner = executions.Owner(door="flow", process=gone_process())
    lost = runs.start(tracked, PARAMS, owner).run_id
    executions.forget(store.configure(tracked), lost)
    living = tracking.open_run(tracked, PARAMS)

    states = {run.info.run_id: run.info.status for run in histories.runs_of(tracked)}
    assert states == {lost: "KILLED", living: "RUNNING"}


def test_a_run_that_was_deleted_does_not_stop_the_next(tracked: Workspace) -> None:
    dead = runs.start(tracked, PARAMS, executions.Owner(door="flow", process=gone_process()))
    histories.client_of(tracked).delete_run(dead.run_id)

    tracking.open_run(tracked, PARAMS)


def test_the_last_run_needs_no_store(tracked: Workspace) -> None:
    run_id = tracking.open_run(tracked, PARAMS)
    (tracked.var / "mlflow" / "mlflow.db").unlink()

    last = tracking.last_run(tracked)
    assert last is not None
    assert (last.run_id, last.status, last.door) == (run_id, "RUNNING", "flow")
    assert not last.interrupted


def test_a_worker_without_a_store_says_so(
    tracked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tracked.var / "mlflow" / "mlflow.db").write_bytes(b"this is no database, by any means")
    answers = io.StringIO()
    answers.close = lambda: None
    order = executions.Order(
        root=str(tracked.root),
        params=PARAMS.model_dump(mode="json", by_alias=True),
        stage="train",
        held_run_id=None,
        owner=executions.this_process("command line"),
    )
    with pytest.raises(TrackingError):
        recorder_worker.serve(io.StringIO(order.model_dump_json() + "\n"), answers)

    assert json.loads(answers.getvalue())["error"]["kind"] == "TrackingError"


# Through real processes

STAGE = """
import sys, time
from pathlib import Path
from graftline.registry import tracking
from graftline.core.workspace import Workspace
from tests import finished

stage, what, root = sys.argv[1:]
workspace = Workspace(Path(root))
with tracking.stage_recorder(workspace, finished.some_params(), stage) as recorder:
    recorder.epoch(1, {"epoch": 1, "loss": 0.9})
    if what == "fail":
        raise ValueError("as told")
    if what == "hang":
        recorder.run_id()
        print("recording", flush=True)
        time.sleep(600)
"""
DVC = """
import subprocess, sys
from pathlib import Path
for stage in ("train", "evaluate"):
    subprocess.run([sys.executable, "-c", {code!r}, stage, "succeed", sys.argv[1]], check=True)
Path(sys.argv[1], "dvc.lock").write_text({lock!r})
"""


def test_what_mlflow_prints_does_not_disturb_the_answers(checkout: Path) -> None:
    code = (
        "from graftline.registry.tracking import recorder_worker as worker\n"
        "worker.serve = lambda requests, answers: (print('view it at'), answers.write('{}'))\n"
        "worker.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=checkout,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=True,
    )

    assert (done.stdout, done.stderr) == ("{}", "view it at\n")


def stage_process(workspace: Workspace, checkout: Path, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", STAGE, "train", what, str(workspace.root)],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def eventually(seen: object, wanted: object, timeout_s: float = 60) -> None:
    until_s = time.monotonic() + timeout_s
    while seen() != wanted and time.monotonic() < until_s:
        time.sleep(0.1)
    assert seen() == wanted


@pytest.mark.slow
def test_a_dvc_above_the_stages_makes_them_one_complete_run(
    tracked: Workspace, checkout: Path
) -> None:
    script = tracked.root / "bin" / "dvc"
    write_text(script, DVC.format(code=STAGE, lock=LOCK))
    with subprocess.Popen(
        [sys.executable, str(script), str(tracked.root)],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as dvc:
        told, _ = dvc.communicate(timeout=120)
    assert dvc.returncode == 0, told

    # The helper waits for dvc to end, and then tells the run of the lock file that it left.
    def lock_digest() -> str:
        return one_run(tracked).data.tags["graftline.dvc_lock_sha256"]

    eventually(lock_digest, sha256_file(tracked.root / "dvc.lock"))
    run = one_run(tracked)
    assert run.info.status == "FINISHED"
    assert run.data.tags["graftline.door"] == "dvc repro"
    assert run.data.tags["graftline.cached_stages"] == (
        "load, preprocess, assemble, freeze, extract, export"
    )
    assert run.data.metrics["test_accuracy"] == 0.975


def test_a_killed_stage_leaves_a_killed_run(tracked: Workspace, checkout: Path) -> None:
    with stage_process(tracked, checkout, "hang") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "recording\n"
        helpers = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGKILL)
        process.communicate()

    eventually(lambda: one_run(tracked).info.status, "KILLED")
    assert len(helpers) == 1
    psutil.wait_procs(helpers, timeout=30)
    assert not helpers[0].is_running()


def test_a_failing_stage_fails_the_run_and_keeps_its_own_error(
    tracked: Workspace, checkout: Path
) -> None:
    with stage_process(tracked, checkout, "fail") as process:
        _, told = process.communicate(timeout=120)

    assert "ValueError: as told" in told
    assert one_run(tracked).info.status == "FAILED"
    assert one_run(tracked).data.metrics == {"loss": 0.9}


def test_a_recorder_without_a_store_stops_the_stage(
    tracked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with (
        pytest.raises(TrackingError, match="cannot be used"),
        tracking.stage_recorder(tracked, PARAMS, "train") as recorder,
    ):
        recorder.run_id()


SLOW_TO_END = """
import atexit, sys, time
if "graftline.registry.tracking.recorder_worker" in " ".join(sys.orig_argv):
    atexit.register(time.sleep, 600)
"""


def worked_through(
    workspace: Workspace, meanwhile: object = lambda recorder: None, epochs: int = 1000
) -> int:
    """A stage that is recorded, and the process that recorded it."""
    with tracking.stage_recorder(workspace, PARAMS, "train") as recorder:
        recorder.run_id()
        meanwhile(recorder)
        # A thousand are more than a pipe holds.
        for epoch in range(1, epochs + 1):
            recorder.epoch(epoch, {"loss": 1.0, "accuracy": 0.5, "validation_loss": 1.0})
    return int(recorder._process.pid)


@pytest.mark.slow
@pytest.mark.kill
def test_a_recorder_that_is_slow_to_end_fails_no_stage(
    tracked: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SLOW_TO_END)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setattr("graftline.registry.tracking.recorder._CLOSE_TIMEOUT_S", 0.5)
    pid = worked_through(tracked, epochs=3)
    assert one_run(tracked).info.status == "FINISHED"
    assert psutil.pid_exists(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_recorder_that_is_stopped_or_killed_fails_no_stage(
    tracked: Workspace, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graftline.registry.tracking.recorder._QUIET_S", 0.1)
    monkeypatch.setattr("graftline.registry.tracking.recorder._SILENCE_S", 3.0)
    pid = worked_through(tracked, lambda recorder: recorder._process.send_signal(number))
    # One that hangs does not go on to hold what its stage held.
    assert not psutil.pid_exists(pid)


@pytest.mark.kill
def test_a_recorder_that_dies_before_there_is_a_run_stops_the_stage_early(
    tracked: Workspace,
) -> None:
    with (
        pytest.raises(TrackingError, match="ended without an answer"),
        tracking.stage_recorder(tracked, PARAMS, "train") as recorder,
    ):
        recorder._process.kill()
        recorder._opened.wait()
        recorder.epoch(1, {"loss": 1.0})
        pytest.fail("an epoch later would be an hour later")
