"""The flow ``predict`` on a real Prefect server: files, states, the event and what is printed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.states import Running

from flows.predict import predict
from graftline.core.processes import ProcessIdentity
from graftline.core.workspace import Workspace
from graftline.evaluation.feature_reference import REFERENCE_FILE, FeatureSample
from graftline.evaluation.predictor import Predictor
from graftline.inference.drift.decision import Drift
from graftline.orchestration import abandoned
from graftline.orchestration.predict_run import launch
from tests import finished
from tests.flows.conftest import newest_begun

FEATURES = finished.MODEL.with_name("brightness_features.tflite")


@pytest.fixture
def workspace(prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with a model that gives features, and its reference, in which this process is."""
    workspace = Workspace(tmp_path)
    finished.write_params(workspace)
    finished.train(workspace)
    (workspace.trained / "model.tflite").write_bytes(FEATURES.read_bytes())
    with Predictor(workspace.trained) as predictor:
        samples = [made(predictor, 300, seed) for seed in (0, 1)]
    arrays = {
        f"{split}_{name}": getattr(sample, name)
        for split, sample in zip(("train", "validation"), samples, strict=True)
        for name in ("features", "labels", "confidence")
    }
    np.savez_compressed(workspace.trained / REFERENCE_FILE, **arrays)
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)
    return workspace


def pixels(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = rng.uniform(40, 120, (count, 1, 1, 1))
    return np.clip(rng.normal(level, 20, (count, 8, 8, 1)), 0, 255).astype(np.uint8)


def made(predictor: Predictor, count: int, seed: int) -> FeatureSample:
    probabilities, features = predictor.probabilities_and_features(pixels(count, seed))
    return FeatureSample.of(features, probabilities)


def write(folder: Path, images: np.ndarray) -> None:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(folder / f"{number:03d}.png")


def drift_events(resource: str) -> list[dict[str, object]]:

    body = {"filter": {"event": {"name": ["graftline.drift"]}, "resource": {"id": [resource]}}}
    with get_client(sync_client=True) as client:
        return list(client._client.post("/events/filter", json=body).json()["events"])


def test_a_batch_like_the_training_images_is_predicted_without_an_alarm(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    write(workspace.root / "photos", pixels(60, 2))
    (workspace.root / "photos" / "bad.png").write_bytes(b"no image")

    assert launch(["photos", "--model", "models/trained"]) == 0
    said = capsys.readouterr().out
    assert "61: dark (" in said and "bright (" in said
    assert "drift      none: 0 % of 4 features" in said
    assert "not read   1" in said
    assert "file       predictions/photos.parquet" in said
    rows = pq.read_table(workspace.root / "predictions" / "photos.parquet").to_pylist()
    assert [row["path"] for row in rows if row["error"]] == ["photos/bad.png"]
    flow_run = newest_begun()
    assert flow_run.name == "predict photos by models/trained"
    assert flow_run.state_name == "Completed"


def test_other_images_raise_an_event(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    write(workspace.root / "night", 255 - pixels(60, 2))
    model = str(workspace.trained)

    assert launch(["night", "--model", model, "--out", "x.parquet"]) == 0
    said = capsys.readouterr().out
    assert "drift      DRIFTED" in said
    assert "next       look at some of the images" in said
    drift = Drift.read(workspace.root / "x-drift" / "drift.json")
    assert drift.alarm
    until = time.monotonic() + 60
    while not (events := drift_events(f"graftline.model.{model}")):
        assert time.monotonic() < until, "the event did not arrive"
        time.sleep(0.2)
    payload = events[0]["payload"]
    assert isinstance(payload, dict)
    assert payload["share"] == drift.share
    assert payload["predictions"] == str(workspace.root / "x.parquet")


def test_an_older_model_says_that_drift_cannot_be_told(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    finished.train(workspace)
    (workspace.trained / REFERENCE_FILE).unlink()
    write(workspace.root / "photos", pixels(3, 2))

    assert launch(["photos", "--model", "models/trained"]) == 0
    assert "drift      cannot be told: this model was registered without" in capsys.readouterr().out


def test_a_mistake_is_told_with_its_code(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(["absent", "--model", "models/trained"]) == 2
    assert "absent is not there" in capsys.readouterr().err


def test_a_killed_one_is_closed_by_the_next(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        gone = ProcessIdentity.of(process.pid)
        process.kill()
    with get_client(sync_client=True) as client:
        killed = client.create_flow_run(predict, state=Running())
    begun = abandoned.Begun(
        flow_run_ids=(str(killed.id),), api=abandoned._api(workspace), process=gone
    )
    begun.write(workspace.var / "flow_runs" / f"{killed.id}.json")
    write(tmp_path / "images", pixels(3, 1))

    assert launch([str(tmp_path / "images")]) == 0

    assert f"{killed.name} was set to Crashed" in capsys.readouterr().out
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(killed.id).state_name == "Crashed"
