from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from graftline.cli.status import show_status
from graftline.core.dvc_lock import LockedStage, read_lock, reads_what_others_wrote
from graftline.core.errors import GraftlineError
from graftline.core.files import write_text
from graftline.core.locks import pipeline_lock
from graftline.core.records.register import Registered
from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace
from graftline.operations.status import StageStatus, _reasons, status
from graftline.registry.tracking import configure, executions, last_run_file
from tests import finished

# Each stage copies what it reads, so that its output follows its input.
DVC_YAML = """
stages:
  load:
    cmd: mkdir -p data && cp source.txt data/loaded
    deps: [source.txt]
    params: [seed, data]
    outs: [data/loaded]
  train:
    cmd: mkdir -p models && cp data/loaded models/trained
    deps: [data/loaded]
    params: [train]
    outs: [models/trained]
  evaluate:
    cmd: mkdir -p reports && cp models/trained reports/evaluation
    deps: [models/trained]
    params: [evaluate]
    outs: [reports/evaluation]
"""
PARAMS_YAML = """
seed: 0
data: {source: mnist-5k}
train: {learning_rate: 0.001, epochs: 3}
evaluate: {calibration_bins: 15}
"""
MODEL_STAGES = {
    "load": LockedStage(params={}, deps={"source.txt": "a"}, outs={"data/loaded": "b"}),
    "train": LockedStage(params={}, deps={"data/loaded": "b"}, outs={"models/trained": "c"}),
    "evaluate": LockedStage(params={}, deps={"models/trained": "c"}, outs={}),
}


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout after ``dvc repro``."""
    root = tmp_path_factory.mktemp("reproduced")
    write_text(root / "dvc.yaml", DVC_YAML)
    write_text(root / "params.yaml", PARAMS_YAML)
    write_text(root / "source.txt", "first\n")
    for command in (("init", "--no-scm", "-q"), ("repro", "-q")):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=root, check=True)
    return root


@pytest.fixture
def workspace(reproduced: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr("graftline.operations.status.STAGES", ("load", "train", "evaluate"))
    write_text(reproduced / "params.yaml", PARAMS_YAML)
    write_text(reproduced / "source.txt", "first\n")
    return Workspace(reproduced)


def states(stages: tuple[StageStatus, ...]) -> dict[str, str]:
    return {stage.name: stage.state for stage in stages}


def reasons(stages: tuple[StageStatus, ...], name: str) -> tuple[str, ...]:
    return next(stage.reasons for stage in stages if stage.name == name)


@pytest.mark.slow
def test_what_was_just_reproduced_is_current(workspace: Workspace) -> None:
    found = status(workspace)

    assert states(found.stages) == {"load": "current", "train": "current", "evaluate": "current"}
    assert found.metrics_current


def test_a_changed_parameter_is_told_from_old_to_new(workspace: Workspace) -> None:
    write_text(
        workspace.params_file,
        PARAMS_YAML.replace("0.001", "0.0005").replace("epochs: 3", "batch_size: 8"),
    )
    found = status(workspace)

    assert states(found.stages) == {"load": "current", "train": "would run", "evaluate": "follows"}
    assert reasons(found.stages, "train") == (
        "train.learning_rate: 0.001 → 0.0005",
        "train.epochs: 3 → absent",
        "train.batch_size: absent → 8",
    )
    assert reasons(found.stages, "evaluate") == ("depends on train",)
    assert not found.metrics_current


def test_a_changed_source_and_a_missing_output_are_named(workspace: Workspace) -> None:
    write_text(workspace.root / "source.txt", "second\n")
    trained = (workspace.root / "models" / "trained").rename(workspace.root / "away")
    try:
        found = status(workspace)
    finally:
        trained.rename(workspace.root / "models" / "trained")

    assert reasons(found.stages, "load") == ("source.txt is modified",)
    assert "output models/trained is missing" in reasons(found.stages, "train")


def test_a_checkout_where_nothing_ran_yet(tmp_path: Path, checkout: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        write_text(tmp_path / name, (checkout / name).read_text(encoding="utf-8"))
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=tmp_path, check=True
    )
    found = status(Workspace(tmp_path))

    assert tuple(states(found.stages)) == STAGES
    assert {stage.state for stage in found.stages} == {"would run"}
    assert {stage.reasons for stage in found.stages} == {("has never run here",)}
    assert (found.metrics, found.last_run, found.registered, found.holder) == (None,) * 4


def test_a_folder_without_a_pipeline_is_an_error(tmp_path: Path) -> None:
    finished.write_params(Workspace(tmp_path))

    with pytest.raises(GraftlineError, match="no project of Graftline") as caught:
        status(Workspace(tmp_path))
    assert caught.value.fix


def test_who_holds_the_pipeline_is_named(workspace: Workspace) -> None:
    with pipeline_lock(workspace):
        found = status(workspace)

    assert "process" in str(found.holder)
    assert status(workspace).holder is None


@pytest.mark.slow
def test_a_stage_that_no_step_waits_for_is_told_of_too(workspace: Workspace) -> None:
    file = workspace.root / "dvc.yaml"
    own = "  upload:\n    cmd: 'true'\n    deps: [reports/evaluation]\n"
    try:
        write_text(file, DVC_YAML + own)
        found = status(workspace).stages
    finally:
        write_text(file, DVC_YAML)
    assert states(found) == {
        **dict.fromkeys(("load", "train", "evaluate"), "current"),
        "upload": "would run",
    }
    assert found[-1].reasons[0] == "has never run here"
    assert found[-1].reasons[1].startswith("no step waits for it: dvc repro runs it")


def test_a_working_stage_leaves_the_states_unknown(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        said = "ERROR: '/x/train' is busy, it is being blocked by:\n  (PID 7): dvc repro\n"
        return subprocess.CompletedProcess([], 255, "", said)

    monkeypatch.setattr("graftline.operations.dvc_commands.ended", busy)
    found = status(workspace)

    assert {stage.state for stage in found.stages} == {"unknown"}


def test_the_last_results_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    finished.finish(workspace, test_accuracy=0.9)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("graftline.operations.status._dvc_status", lambda root: {"train": ["x"]})
    store = configure(workspace)
    run = last_run_file.LastRun(
        run_id="f00",
        name="digits [bold]",
        door="flow",
        status="RUNNING",
        uri=store.shown,
        experiment="graftline",
        process=executions.this_process("flow").process.model_copy(update={"started": 0.0}),
    )
    last_run_file.keep_last_run(store, run)
    registered = Registered(
        model_name="digits",
        version="4",
        alias="challenger",
        run_id="f00",
        model_uri="models:/digits/4",
        already_registered=False,
    )
    registered.write(workspace.var / "registered.json")

    assert show_status(workspace) == 0
    told = capsys.readouterr().out
    assert "test accuracy 0.9000 (95 % interval 0.8900 to 0.9080) on 1,000 images" in told
    assert "of an earlier state" in told
    assert "digits [bold]: interrupted, by flow (f00)" in told
    assert "digits version 4, challenger" in told


def test_as_json_it_is_one_object(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_status(workspace, as_json=True) == 0

    record = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in record["stages"]] == ["load", "train", "evaluate"]
    assert set(record) == {
        "stages",
        "metrics",
        "metrics_current",
        "last_run",
        "registered",
        "holder",
    }


def test_it_needs_no_heavy_import(checkout: Path) -> None:
    code = (
        "import sys, graftline.operations.status; "
        "sys.exit(len({'mlflow', 'numpy', 'pandas', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=checkout, check=False).returncode == 0


def test_other_changes_are_told_in_dvcs_words() -> None:
    locked = LockedStage(params={}, deps={}, outs={})
    changes = [
        "always changed",
        {"changed command": None},
        {"changed deps": {"graftline/steps/train.py": "modified", "data/loaded": "deleted"}},
    ]
    assert list(_reasons(changes, locked, {})) == [
        "always changed",
        "changed command",
        "graftline/steps/train.py is modified",
        "data/loaded is missing",
    ]


@pytest.mark.parametrize("text", ["", "[1, 2", "stages: 3", "just text", "stages: {load: 1}"])
def test_a_lock_that_is_none_has_no_stages(tmp_path: Path, text: str) -> None:
    write_text(tmp_path / "dvc.lock", text)

    assert read_lock(tmp_path) == {}
    assert read_lock(tmp_path / "absent") == {}


def test_results_belong_to_the_outputs_that_they_were_made_from() -> None:
    other = LockedStage(params={}, deps={"data/loaded": "b"}, outs={"models/trained": "d"})

    assert reads_what_others_wrote(MODEL_STAGES, "evaluate")
    assert not reads_what_others_wrote({**MODEL_STAGES, "train": other}, "evaluate")
    assert not reads_what_others_wrote({}, "evaluate")
