from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun

from graftline.core.locks import pipeline_lock
from graftline.core.workspace import Workspace
from graftline.data.fingerprint import LoadedSource
from graftline.orchestration import pipeline
from graftline.orchestration.launch import launch
from tests import histories
from tests.flows import toy
from tests.flows.conftest import Ran, newest_begun

# Each runs a whole pipeline; what counts as news is tested in tests/unit/operations/test_news.py.
pytestmark = pytest.mark.slow

NOTHING = "nothing new: images, parameters and code are those of the last training"


def run(*arguments: str) -> int:
    return launch("flows.retrain", "retrain", list(arguments), looks=True)


def message(flow_run: FlowRun) -> str:
    assert flow_run.state is not None
    return flow_run.state.message or ""


def test_nothing_new_ends_completed_and_says_so(
    checkout_after: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    assert NOTHING in " ".join(capsys.readouterr().out.split())
    flow_run = newest_begun()
    assert flow_run.state_name == "Completed"
    assert flow_run.name == "retrain: nothing new"
    assert message(flow_run) == NOTHING
    assert toy.ran(checkout_after) == []
    # No run of MLflow tells of a training that did not take place.
    assert histories.runs_of(checkout_after) == []


def test_a_changed_parameter_is_trained_and_after_that_nothing_is_new(
    checkout_after: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--set", "train.learning_rate=0.025") == 0
    assert toy.ran(checkout_after) == ["train", "evaluate", "export"]
    flow_run = newest_begun()
    assert flow_run.state_name == "Completed"
    assert flow_run.name == "retrain: train.learning_rate: 0.001 → 0.025"
    assert "stale: train" in message(flow_run)
    assert "test accuracy 97.50%" in message(flow_run)
    [tracked] = histories.runs_of(checkout_after)
    assert tracked.info.status == "FINISHED"
    assert "97.50% of 1,000 test images" in capsys.readouterr().out
    assert run() == 0
    assert message(newest_begun()) == NOTHING
    assert toy.ran(checkout_after) == ["train", "evaluate", "export"]


def test_without_a_server_nothing_new_starts_none_and_imports_nothing_heavy(
    first_run: Ran, checkout_after: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL")
    code = (
        "import sys; from graftline.orchestration.launch import launch\n"
        "code = launch('flows.retrain', 'retrain', [], looks=True)\n"
        "heavy = {'prefect', 'tensorflow', 'keras', 'mlflow', 'sklearn'} & set(sys.modules)\n"
        "print(code, sorted(heavy))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=checkout_after.root,
        env=toy.environment({}),
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    ).stdout
    assert NOTHING in " ".join(said.split())
    assert said.splitlines()[-1] == "0 []"
    assert not (checkout_after.var / "prefect" / "server.json").exists()


def test_force_runs_everything(checkout_after: Workspace) -> None:
    assert run("--force") == 0
    assert toy.ran(checkout_after) == list(toy.STAGES)
    assert newest_begun().name == "retrain: forced"


def test_images_that_dvc_does_not_see_are_loaded_all_the_same(
    checkout_after: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = checkout_after.var / "finished.json"
    record: dict[str, Any] = json.loads(finished.read_text())
    finished.write_text(json.dumps(record | {"source_digest": "of fewer images"}))
    LoadedSource(source_digest="of fewer images").write(LoadedSource.path_in(checkout_after))
    assert run() == 0
    # What load wrote is what it had written, so nothing follows.
    assert toy.ran(checkout_after) == ["load"]
    assert newest_begun().name == "retrain: images: other ones than before"
    assert run() == 0
    assert message(newest_begun()) == NOTHING


def test_a_deployed_run_waits_for_nobody_and_tries_again_only_what_can_pass(
    checkout_after: Workspace,
) -> None:
    from flows.retrain import retrain

    patient = retrain.with_options(retries=1, retry_delay_seconds=0)
    assert pipeline._current is None
    holder = "import pathlib, sys\nfrom graftline.core.locks import *\n"
    holder += (
        "with pipeline_lock(Workspace(pathlib.Path.cwd())): print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=toy.environment({}),
        text=True,
    ) as other:
        assert other.stdout and other.stdout.readline() == "held\n"
        state = patient(return_state=True)
        other.kill()
    assert "the pipeline is held by process" in (state.message or "")
    assert newest_begun().run_count == 2
    with pipeline_lock(checkout_after):
        pass
    checkout_after.params_file.write_text("seed: no number\n")
    state = patient(return_state=True)
    assert "the parameters are not valid" in (state.message or "")
    assert newest_begun().run_count == 1


def test_a_deployed_run_completes_the_params_of_an_earlier_version(
    checkout_after: Workspace,
) -> None:
    from flows.retrain import retrain

    text = checkout_after.params_file.read_text()
    before = text.replace("evaluate: {worst_mistakes: 0}\n", "")
    assert before != text
    checkout_after.params_file.write_text(before)
    state = retrain(return_state=True)
    assert state.type.value == "COMPLETED", state.message
    assert "\n  worst_mistakes: 24\n" in checkout_after.params_file.read_text()
    # The default is another value.
    assert toy.ran(checkout_after) == ["evaluate"]


def test_an_absent_source_is_said_to_be(checkout_after: Workspace, tmp_path: Path) -> None:
    from flows.retrain import retrain

    text = toy.PARAMS.replace(
        "{source: mnist-5k, path: data/no-files}",
        f"{{source: folder, path: {tmp_path / 'absent'}}}",
    )
    checkout_after.params_file.write_text(text)
    state = retrain(return_state=True)
    assert state.type.value == "FAILED"
    assert "which cannot be reached" in (state.message or "")


def test_what_an_experiment_has_left_is_not_trained_by_itself(
    checkout_after: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    root = checkout_after.root
    text = checkout_after.params_file.read_text()
    checkout_after.params_file.write_text(
        text.replace("learning_rate: 0.001", "learning_rate: 1.0")
    )
    made = subprocess.run(
        ["git", "stash", "create"], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(["git", "update-ref", "refs/exps/ab/cd/sixth-ruby", made], cwd=root, check=True)
    assert run() == 2
    assert "the experiment sixth-ruby, and nobody has committed it" in capsys.readouterr().err
    assert toy.ran(checkout_after) == []
