"""The real pipeline on a tiny network, through its doors: what stays, what runs, what is the same.

One checkout goes through the tests in their order, as a user's would.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from graftline.core.dvc_lock import read_lock, read_locked_stage
from graftline.core.files import write_text
from graftline.core.params import read_params
from graftline.core.records import Metrics, Trained
from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace
from graftline.operations.earlier_results import TAKEN
from tests.flows.tiny import COMMIT, make, sh


def executed(said: str) -> list[str]:
    return [stage for stage in STAGES if f"Running stage '{stage}'" in said]


def flow_states(whole: Workspace, *arguments: str) -> dict[str, str]:
    """What the flow says of each stage."""
    said = sh(whole.root, sys.executable, "-m", "flows.train", *arguments)
    return {
        stage: state
        for stage in STAGES
        for state in ("cached", "executed", "restored")
        if f"{stage:<10} {state}" in said
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A tiny checkout whose pipeline has run by DVC."""
    workspace = make(tmp_path_factory.mktemp("whole"))
    assert executed(sh(workspace.root, "dvc", "repro")) == list(STAGES)
    yield workspace


def test_a_second_repro_does_nothing(whole: Workspace) -> None:
    assert executed(sh(whole.root, "dvc", "repro")) == []
    assert json.loads(sh(whole.root, "dvc", "status", "--json")) == {}


def test_one_stage_of_the_lock_is_read_as_all_of_them_are(whole: Workspace) -> None:
    locked = read_lock(whole.root)
    assert tuple(sorted(locked)) == tuple(sorted(STAGES))
    assert {stage: read_locked_stage(whole.root, stage) for stage in STAGES} == locked
    assert read_locked_stage(whole.root, "absent") is None


def test_a_run_leaves_git_clean_but_for_the_lock(whole: Workspace) -> None:
    assert sh(whole.root, "git", "status", "--porcelain").split() == ["??", "dvc.lock"]


def test_the_frozen_part_did_not_move(whole: Workspace) -> None:
    trained = Trained.read(whole.trained / "trained.json")
    assert trained.frozen_digest_before == trained.frozen_digest_after


@pytest.mark.slow
def test_a_flow_with_another_rate_runs_training_and_what_follows(whole: Workspace) -> None:
    before = Trained.read(whole.trained / "trained.json").weight_digest
    plan = whole.freeze_plan.read_bytes()
    states = flow_states(whole, "--set", "train.learning_rate=0.02")
    # A choice by measurement would depend on the rate; a fixed plan is the same, and so DVC lets
    # the features stay.
    ran = dict.fromkeys(("freeze", "train", "evaluate", "export"), "executed")
    assert states == dict.fromkeys(STAGES, "cached") | ran
    assert states["extract"] == "cached"
    assert whole.freeze_plan.read_bytes() == plan
    assert Trained.read(whole.trained / "trained.json").weight_digest != before
    assert json.loads(sh(whole.root, "dvc", "status", "--json")) == {}


@pytest.mark.slow
def test_both_doors_left_a_complete_run(whole: Workspace) -> None:
    code = (
        "import json, mlflow\n"
        "from graftline.registry.tracking.store import configure, open_client\n"
        "from graftline.core.workspace import Workspace\n"
        "client, experiment = open_client(configure(Workspace.here()))\n"
        "runs = client.search_runs([experiment])\n"
        "print(json.dumps([[r.info.status, r.data.metrics, r.data.tags] for r in runs]))\n"
    )
    by_flow, by_dvc = json.loads(sh(whole.root, sys.executable, "-c", code).splitlines()[-1])
    accuracy = Metrics.read(whole.metrics).test_accuracy
    digest = Trained.read(whole.trained / "trained.json").weight_digest
    for status, logged, tags in (by_flow, by_dvc):
        assert status == "FINISHED"
        assert {"test_accuracy", "validation_accuracy"} <= set(logged)
        assert "graftline.dvc_lock_sha256" in tags
    assert by_flow[1]["test_accuracy"] == pytest.approx(accuracy)
    assert digest in by_flow[2].values()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_metrics_by_either_door(whole: Workspace) -> None:
    digest = Trained.read(whole.trained / "trained.json").weight_digest
    metrics = whole.metrics.read_bytes()
    said = sh(whole.root, "dvc", "repro", "--force", "--single-item", "train")
    assert executed(said) == ["train"]
    assert Trained.read(whole.trained / "trained.json").weight_digest == digest
    # What train wrote is the same to the byte, so evaluate has nothing to do.
    assert json.loads(sh(whole.root, "dvc", "status", "--json")) == {}
    assert whole.metrics.read_bytes() == metrics


@pytest.mark.slow
def test_going_back_trains_nothing_and_registers_nothing_a_second_time(whole: Workspace) -> None:
    def versions() -> int:
        said = sh(whole.root, sys.executable, "-m", "graftline", "models", "--json")
        return len(json.loads(said))

    later = Trained.read_in(whole).weight_digest
    assert versions() == 1
    assert flow_states(whole, "--set", "train.learning_rate=0.01")["train"] == "restored"
    assert Trained.read_in(whole).weight_digest != later
    assert versions() == 2, "dvc repro registers nothing, so that this flow did"

    text = whole.params_file.read_text(encoding="utf-8")
    assert '"learning_rate": 0.01' in text
    write_text(whole.params_file, text.replace('"learning_rate": 0.01', '"learning_rate": 0.02'))
    said = sh(whole.root, "dvc", "repro")
    assert executed(said) == ["freeze", "train", "evaluate", "export"]
    assert said.count(TAKEN) == 4
    assert Trained.read_in(whole).weight_digest == later
    assert flow_states(whole) == dict.fromkeys(STAGES, "cached")
    assert versions() == 2, "the version that has these weights is found"


@pytest.mark.slow
def test_what_dvc_has_loaded_a_flow_does_not_load_again(whole: Workspace) -> None:
    images = whole.root.parent / "images.npz"
    before = images.read_bytes()
    with np.load(images) as one:
        np.savez(images, images=one["images"][::-1], labels=one["labels"][::-1])
    assert "load" in executed(sh(whole.root, "dvc", "repro"))
    assert flow_states(whole) == dict.fromkeys(STAGES, "cached")
    images.write_bytes(before)
    assert "load" in executed(sh(whole.root, "dvc", "repro"))


def edit(whole: Workspace, module: str) -> None:
    with (whole.root / "graftline" / module).open("a", encoding="utf-8") as file:
        file.write("\n# edited\n")


@pytest.mark.slow
def test_an_edit_of_the_progress_bar_makes_no_stage_stale(whole: Workspace) -> None:
    edit(whole, "core/progress.py")
    assert flow_states(whole) == dict.fromkeys(STAGES, "cached")
    assert executed(sh(whole.root, "dvc", "repro")) == []


@pytest.mark.slow
def test_an_edit_of_the_loop_makes_what_trains_stale_by_either_door(whole: Workspace) -> None:
    edit(whole, "training/loop.py")
    command = ("dvc", "repro", "--force", "--single-item", "train")
    with pytest.raises(AssertionError, match="run graftline lock, which writes it down"):
        sh(whole.root, *command)
    status = sh(whole.root, sys.executable, "-m", "graftline", "status", "--json")
    told = {one["name"]: one["reasons"] for one in json.loads(status)["stages"]}
    assert told["train"] == ["its code has changed, which graftline.lock does not say yet"]
    said = sh(whole.root, sys.executable, "-m", "graftline", "lock")
    assert said == "graftline.lock: the code of freeze, train has changed\n"
    # The weights are the same to the byte, so that nothing follows.
    assert executed(sh(whole.root, "dvc", "repro")) == ["freeze", "train"]

    edit(whole, "training/loop.py")
    ran = dict.fromkeys(("freeze", "train"), "executed")
    assert flow_states(whole) == dict.fromkeys(STAGES, "cached") | ran
    assert executed(sh(whole.root, "dvc", "repro")) == []


HOSTILE = {
    "KERAS_BACKEND": "torch",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "NPY_DISABLE_CPU_FEATURES": "AVX2",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_USE_LEGACY_KERAS": "1",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "GIT_DIR": "/nonexistent",
    "DVC_ROOT": "/other",
    "MLFLOW_RUN_ID": "0" * 32,
    "PREFECT_SERVER_API_BASE_PATH": "/elsewhere",
    "TMPDIR": "/nonexistent",
    "http_proxy": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://127.0.0.1:9",
}


@pytest.mark.slow
def test_a_hostile_environment_changes_no_weight_and_no_picture(
    whole: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = Trained.read(whole.trained / "trained.json").weight_digest
    files = {path.name: path.read_bytes() for path in whole.evaluation.iterdir()}
    metrics = whole.metrics.read_bytes()
    keras = tmp_path / "keras"
    keras.mkdir()
    (keras / "keras.json").write_text('{"floatx": "float16", "epsilon": 0.1, "backend": "jax"}')
    # As a user's may lie in the folder that one works in.
    (whole.root / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\nbackend: none\n")
    for name, text in {**HOSTILE, "KERAS_HOME": str(keras)}.items():
        monkeypatch.setenv(name, text)
    said = sh(whole.root, sys.executable, "-m", "flows.train", "--force")
    (whole.root / "matplotlibrc").unlink()
    assert "not used, since only parameters decide what comes out: " in said
    for stage in STAGES:
        assert f"{stage:<10} executed" in said, said
    assert Trained.read(whole.trained / "trained.json").weight_digest == digest
    assert {path.name: path.read_bytes() for path in whole.evaluation.iterdir()} == files
    assert whole.metrics.read_bytes() == metrics


def test_a_changed_source_file_makes_load_stale(whole: Workspace) -> None:
    source = Path(read_params(whole.params_file).data.path or "")
    content = source.read_bytes()
    source.write_bytes(content + b"one byte more")
    assert list(json.loads(sh(whole.root, "dvc", "status", "--json"))) == ["load"]
    source.write_bytes(content)
    assert json.loads(sh(whole.root, "dvc", "status", "--json")) == {}


@pytest.mark.slow
def test_a_second_clone_pulls_and_has_nothing_to_do(whole: Workspace, tmp_path: Path) -> None:
    remote = str(tmp_path / "remote")
    sh(whole.root, "dvc", "remote", "add", "--default", "local", remote)
    for command in (
        ("dvc", "push", "-q"),
        ("git", "add", "-A"),
        (*COMMIT, "run"),
        ("git", "clone", "-q", ".", str(tmp_path / "clone")),
    ):
        sh(whole.root, *command)
    clone = Workspace(tmp_path / "clone")
    sh(clone.root, "dvc", "pull", "-q")
    assert executed(sh(clone.root, "dvc", "repro")) == []
    assert clone.metrics.read_bytes() == whole.metrics.read_bytes()
