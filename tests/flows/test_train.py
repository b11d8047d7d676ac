from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun

from graftline.core.locks import pipeline_lock
from graftline.core.processes import runs
from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace
from graftline.orchestration.launch import launch
from tasks import notify
from tests import finished, histories
from tests.flows import toy
from tests.flows.conftest import Ran, newest_begun
from tests.listener import listening

STEPS = [*STAGES, "register", "promote"]
SECRET = "T0P-s3cr3t-of-the-flow"


def run(*arguments: str) -> int:
    return launch("flows.train", "train", list(arguments))


def count_of_flow_runs() -> int:
    with get_client(sync_client=True) as client:
        return len(client.read_flow_runs())


def task_states(flow_run: FlowRun) -> dict[str, str]:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
        )
    return {one.name: one.state.name for one in runs if one.state}


def states() -> dict[str, str]:
    return task_states(newest_begun())


def dvc_status(workspace: Workspace) -> object:
    said = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=workspace.root,
        check=True,
        capture_output=True,
    ).stdout
    return json.loads(said)


def wait_for(path: Path, limit_s: float = 60) -> str:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if path.exists() and (text := path.read_text(encoding="utf-8")):
            return text
        time.sleep(0.05)
    raise TimeoutError(f"{path} did not appear")


def test_after_a_first_run_every_task_stands_completed_and_dvc_is_clean(first_run: Ran) -> None:
    assert first_run.code == 0
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(first_run.flow_run_id)
        artifacts = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run.id]))
        )
    assert flow_run.state_name == "Completed"
    assert flow_run.name == "train mnist-5k, random at 32 px, freeze last_blocks 2"
    assert task_states(flow_run) == dict.fromkeys(STEPS, "Completed")
    assert {one.key for one in artifacts} == {
        "dataset",
        "preprocessed-images",
        "network",
        "freezing-plan",
        "features",
        "training",
        "metrics",
        "evaluation-pictures",
        "registered-model",
        "promotion",
    }
    assert toy.ran(first_run.workspace) == list(STAGES)
    assert dvc_status(first_run.workspace) == {}
    [tracked] = histories.runs_of(first_run.workspace)
    assert tracked.info.status == "FINISHED"


def test_a_second_run_finds_everything_cached(
    checkout_after: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    first = states()
    assert {name: state for name, state in first.items() if name in STAGES} == (
        dict.fromkeys(STAGES, "Cached")
    )
    assert toy.ran(checkout_after) == []
    said = capsys.readouterr().out
    assert "97.50% of 1,000 test images" in said
    assert "1 of 2 images of bright is taken for dark" in said
    # The registry now has these weights, whose version is the champion.
    assert run("--require-promotion") == 0
    assert states() == dict.fromkeys(STEPS, "Cached")


@pytest.mark.slow
def test_a_model_that_is_not_promoted_has_an_exit_code_where_that_is_asked_for(
    checkout_after: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    stricter = ("--set", "promote.min_accuracy=0.99")
    assert run(*stricter, "--require-promotion") == 3
    said = capsys.readouterr().out
    assert "exit code 3: the model was not promoted (--require-promotion)" in said
    assert run() == 0
    assert {one.info.status for one in histories.runs_of(checkout_after)} == {"FINISHED"}


@pytest.mark.slow
def test_outputs_that_are_gone_come_back_without_their_stages(checkout_after: Workspace) -> None:
    shutil.rmtree(checkout_after.trained)
    shutil.rmtree(checkout_after.root / "data" / "features")
    assert run() == 0
    assert toy.ran(checkout_after) == []
    found = states()
    assert {name for name, state in found.items() if state == "Restored"} == {"extract", "train"}
    assert {found[name] for name in STAGES if name not in ("extract", "train")} == {"Cached"}
    assert dvc_status(checkout_after) == {}


def test_a_change_runs_just_what_follows_from_it(checkout_after: Workspace) -> None:
    assert run("--set", "train.learning_rate=0.025") == 0
    assert toy.ran(checkout_after) == ["train", "evaluate", "export"]
    assert {name for name, state in states().items() if state == "Completed"} == {
        "train",
        "evaluate",
        "export",
        "register",
        "promote",
    }
    assert checkout_after.params_file.read_text() == toy.PARAMS.replace("0.001", "0.025")
    [kept] = (checkout_after.var / "params").iterdir()
    assert kept.read_text() == toy.PARAMS
    assert dvc_status(checkout_after) == {}


@pytest.mark.slow
def test_an_output_that_stays_the_same_stops_the_chain(checkout_after: Workspace) -> None:
    assert run("--set", "freeze.strategy=last_blocks: 3") == 0
    assert toy.ran(checkout_after) == ["freeze"]
    assert states()["freeze"] == "Completed"
    assert states()["train"] == "Cached"


def test_a_failing_stage_ends_the_flow_with_its_own_error(
    checkout_after: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOY_FAILS", "train")
    assert run("--set", "train.learning_rate=0.03") == 2
    said = capfd.readouterr().err
    assert said.count("train found a broken image") == 1
    assert "mend one.jpg" in said
    assert "Traceback" not in said
    assert "failed to reproduce" not in said
    flow_run = newest_begun()
    assert flow_run.state is not None
    assert flow_run.state.type.value == "FAILED"
    assert task_states(flow_run)["train"] == "Failed"
    assert "evaluate" not in task_states(flow_run)
    [tracked] = histories.runs_of(checkout_after)
    assert tracked.info.status == "FAILED"
    # What was there before still is.
    assert (checkout_after.trained / "trained.json").exists()


@pytest.mark.parametrize(
    ("shell", "bins"), [pytest.param("/bin/bash", 9, marks=pytest.mark.slow), ("/bin/sh", 8)]
)
def test_a_stage_that_dies_without_a_word_is_said_to_have(
    shell: str,
    bins: int,
    checkout_after: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # DVC runs a stage by the user's shell, and shells tell of a signal in two ways.
    monkeypatch.setenv("SHELL", shell)
    monkeypatch.setenv("TOY_DIES", "evaluate")
    assert run("--set", f"evaluate.calibration_bins={bins}") == 1
    said = capfd.readouterr().err
    assert "stage evaluate was killed (SIGKILL), as the system does when memory runs out" in said


def test_parameters_are_refused_before_anything_runs(
    checkout_after: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    before = count_of_flow_runs()
    assert run("--set", "train.epochs=3", "--set", "train.learning_rat=1") == 2
    assert "train.learning_rat" in capfd.readouterr().err
    assert checkout_after.params_file.read_text() == toy.PARAMS
    assert count_of_flow_runs() == before


def test_a_second_run_says_who_holds_the_pipeline(
    checkout_after: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=toy.environment({}),
        text=True,
    ) as other:
        assert other.stdout and other.stdout.readline() == "held\n"
        assert run("--set", "train.epochs=3") == 2
        said = capfd.readouterr().err
        assert f"process {other.pid} " in said
        assert checkout_after.params_file.read_text() == toy.PARAMS
        other.kill()
    # A dead holder is no obstacle.
    with pipeline_lock(checkout_after):
        pass


HOLDS = (
    "import sys, pathlib; from graftline.core.locks import *\n"
    "with pipeline_lock(Workspace(pathlib.Path.cwd())): print('held', flush=True); input()"
)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["flows.train", "flows.retrain"])
def test_what_is_edited_while_a_run_waits_is_kept_and_used(
    checkout_after: Workspace, module: str
) -> None:
    place = {"cwd": checkout_after.root, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS], env=toy.environment({}), text=True, **place
    ) as other:
        assert other.stdout and other.stdin and other.stdout.readline() == "held\n"
        with subprocess.Popen(
            [sys.executable, "-m", module, "--wait", "90", "--set", "train.learning_rate=0.02"],
            env=toy.environment({"PYTHONUNBUFFERED": "1"}),
            text=True,
            **place,
        ) as flow:
            assert flow.stdout and "the pipeline is held by" in flow.stdout.readline()
            edited = toy.PARAMS.replace("seed: 7", "seed: 8")
            checkout_after.params_file.write_text(edited, encoding="utf-8")
            other.stdin.close()
            flow.communicate()
    assert flow.returncode == 0
    text = checkout_after.params_file.read_text(encoding="utf-8")
    assert "seed: 8  # a comment that must stay" in text
    assert "learning_rate: 0.02 " in text
    # What the stages read is what the history tells.
    (tracked,) = histories.runs_of(checkout_after)
    assert tracked.data.params["seed"] == "8"
    assert tracked.data.params["train.learning_rate"] == "0.02"
    assert tracked.data.tags["graftline.weight_digest"] == finished.digest_of("8 0.02")


@pytest.mark.slow
def test_what_is_edited_while_a_run_is_at_work_is_for_the_next_one_or_refused(
    checkout_after: Workspace,
) -> None:
    def run_with_an_edit(before: str, after: str, rate: str) -> tuple[int, str]:
        with subprocess.Popen(
            toy.command("--set", f"train.learning_rate={rate}"),
            cwd=checkout_after.root,
            env=toy.environment({"TOY_WAITS": "train"}),
            stderr=subprocess.PIPE,
            text=True,
        ) as flow:
            wait_for(checkout_after.var / "waiting")
            text = checkout_after.params_file.read_text(encoding="utf-8")
            checkout_after.params_file.write_text(text.replace(before, after), encoding="utf-8")
            (checkout_after.var / "go").touch()
            _, said = flow.communicate()
        (checkout_after.var / "waiting").unlink()
        (checkout_after.var / "go").unlink()
        return flow.returncode, said

    # What later stages do not read, and the steps that are no stages.
    code, said = run_with_an_edit("size_px: 32", "size_px: 64", "0.03")
    assert code == 0, said
    (tracked,) = histories.runs_of(checkout_after)
    assert tracked.data.params["preprocess.size_px"] == "32"
    assert "size_px: 64" in checkout_after.params_file.read_text(encoding="utf-8")

    code, said = run_with_an_edit("worst_mistakes: 0", "worst_mistakes: 1", "0.04")
    assert code == 2
    assert "evaluate.worst_mistakes: 0 → 1" in said
    assert toy.ran(checkout_after)[-1] == "train"


def test_an_api_that_does_not_answer_is_named(
    checkout_after: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    absent = "http://127.0.0.1:9/api"
    monkeypatch.setenv("PREFECT_API_URL", absent)
    with temporary_settings({PREFECT_API_URL: absent}):
        assert run() == 2
    assert absent in capfd.readouterr().err
    assert {tracked.info.status for tracked in histories.runs_of(checkout_after)} == {"FAILED"}


@pytest.mark.slow
def test_termination_ends_the_stage_and_keeps_the_records(checkout_after: Workspace) -> None:
    with subprocess.Popen(
        toy.command("--set", "train.learning_rate=0.04"),
        cwd=checkout_after.root,
        env=toy.environment({"TOY_HANGS": "train"}),
        stderr=subprocess.PIPE,
        text=True,
    ) as flow:
        stage = int(wait_for(checkout_after.var / "hanging.pid"))
        flow.send_signal(signal.SIGTERM)
        _, said = flow.communicate(timeout=60)
    assert flow.returncode == 130
    assert "interrupted" in said
    assert not runs(stage)
    flow_run = newest_begun()
    assert flow_run.state_name == "Crashed"
    assert task_states(flow_run)["train"] == "Crashed"
    [tracked] = histories.runs_of(checkout_after)
    assert tracked.info.status == "KILLED"


@pytest.mark.slow
def test_the_next_run_goes_on_after_a_kill(
    checkout_after: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen(
        toy.command("--set", "train.learning_rate=0.05"),
        cwd=checkout_after.root,
        env=toy.environment({"TOY_HANGS": "train"}),
    ) as flow:
        stage = int(wait_for(checkout_after.var / "hanging.pid"))
        flow.kill()
    assert runs(stage)
    killed = newest_begun()
    assert killed.state_name == "Running"
    assert run() == 0
    assert not runs(stage)
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(killed.id).state_name == "Crashed"
    assert task_states(killed)["train"] == "Crashed"
    assert "stage train was still at work" in capsys.readouterr().out
    assert states() == {
        name: "Completed"
        if name in ("train", "evaluate", "export", "register", "promote")
        else "Cached"
        for name in STEPS
    }


@pytest.mark.slow
def test_a_server_of_ones_own_keeps_every_record_and_goes(
    checkout_after: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.delenv("PREFECT_HOME")
    subprocess.run(
        toy.command(), cwd=checkout_after.root, env=toy.environment({}), check=True, timeout=120
    )
    assert not (checkout_after.var / "prefect" / "server.json").exists()
    import sqlite3

    database = checkout_after.var / "prefect" / "prefect.db"
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "select name, state_type from task_run where flow_run_id = "
            "(select id from flow_run order by start_time desc limit 1)"
        ).fetchall()
    connection.close()
    assert sorted(rows) == sorted((name, "COMPLETED") for name in STEPS)


def holding(folder: Path, text: str) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if text.encode() in path.read_bytes()]


def test_a_verdict_that_cannot_be_told_is_a_warning_and_its_secret_is_nowhere(
    checkout_after: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    told = tmp_path / "told.json"
    code = f"import sys; open({str(told)!r}, 'w').write(sys.stdin.read())"
    command = shlex.join([sys.executable, "-c", code])
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(notify, "_notify", notify._notify.with_options(retries=0))
    with listening() as listener:
        listener.code = 500
        monkeypatch.setenv("GRAFTLINE_WEBHOOK", f"{listener.address}/{SECRET}")
        assert run("--debug", "--set", f"notify.command={command}") == 0
    said = capfd.readouterr()
    assert "warning: the webhook at http://127.0.0.1:" in said.out
    assert "answered 500" in said.out
    flow_run = newest_begun()
    assert flow_run.state_name == "Completed"
    assert task_states(flow_run)["notify"] == "Failed"
    [(path, _, posted)] = listener.got
    assert path == f"/{SECRET}"
    assert json.loads(told.read_text()) == posted
    assert posted["runs"]["prefect"] == str(flow_run.id)
    assert posted["model"]["name"] == "graftline"
    assert SECRET not in said.out + said.err
    assert holding(checkout_after.root, SECRET) == []
    assert holding(Path(os.environ["PREFECT_HOME"]), SECRET) == []
    assert holding(Path(os.environ["PREFECT_HOME"]), str(flow_run.id)) != []
