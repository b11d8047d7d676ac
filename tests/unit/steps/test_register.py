from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow.artifacts
import numpy as np
import pandas as pd
import pytest
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray
from PIL import Image

from graftline.core.errors import MissingOutputError, StorageFullError
from graftline.core.records.register import Registered
from graftline.core.workspace import Workspace
from graftline.data.decoding import decode, from_base64
from graftline.registry import tracking
from graftline.registry.tracking import registry
from graftline.steps.register import register
from tests import finished, histories
from tests.unit.core.test_checksums import rot

PARAMS = finished.some_params()
NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 1), dtype=np.uint8)


def in_base64(image: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(image if image.shape[2] == 3 else image[..., 0]).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def parsed(body: dict[str, Any]) -> Any:
    """What MLflow's server makes of a request's body for the registered model."""
    # Its import warns of MLflow's own type hints; registering has imported the most of it.
    from mlflow.pyfunc.scoring_server import infer_and_parse_data

    schema = Schema([TensorSpec(np.dtype(object), (-1,))])
    return infer_and_parse_data(body, schema)


USER = """
import importlib.util, json, sys
sys.path[:] = [path for path in sys.path if path not in ("", sys.argv[2])]
sys.meta_path[:] = [one for one in sys.meta_path if "editable" not in repr(one).lower()]
found = importlib.util.find_spec("graftline")
# An editable installation leaves its data files there, and no module.
assert found is None or found.origin is None
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/graftline@challenger")
dark = np.full((2, 28, 28, 1), 20, np.uint8)
photographs = np.full((1, 300, 200, 3), 240, np.uint8)
mixed = np.empty(2, dtype=object)
mixed[:] = [np.full((9, 7), 5, np.uint8), np.full((90, 70, 3), 250, np.uint8)]
answers = [model.predict(images).to_dict("records") for images in (dark, photographs, mixed)]
modules = {name: sys.modules[name].__file__ for name in sys.modules if name == "graftline"}
print(json.dumps([answers, modules, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


@pytest.fixture
def registered(tracked: Workspace) -> tuple[Workspace, Registered]:
    run_id = tracking.open_run(tracked, PARAMS)
    return tracked, register(tracked, PARAMS, run_id)


def model_folder(workspace: Workspace, version: str = "1") -> Path:
    client = histories.client_of(workspace)
    uri = client.get_model_version_download_uri("graftline", version)
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))


def test_a_version_tells_what_it_is(registered: tuple[Workspace, Registered]) -> None:
    workspace, receipt = registered

    version = histories.client_of(workspace).get_model_version_by_alias("graftline", "challenger")
    assert receipt == Registered(
        model_name="graftline",
        version="1",
        alias="challenger",
        run_id=version.run_id,
        model_uri="models:/graftline/1",
        already_registered=False,
    )
    assert Registered.read(workspace.var / "registered.json") == receipt
    assert version.tags["graftline.weight_digest"] == finished.digest_of("first")
    assert version.tags["graftline.dataset_digest"] == finished.digest_of("data")
    assert version.tags["graftline.test_accuracy"] == "0.975000"
    assert "97.50% of 1,000 test images" in version.description
    newest = tracking.all_versions(workspace, "graftline")[0]
    assert newest.weight_digest == finished.digest_of("first")


def test_the_model_folder_is_complete_and_holds_no_pickle(
    registered: tuple[Workspace, Registered],
) -> None:
    workspace, _ = registered
    folder = model_folder(workspace)
    info = mlflow.models.Model.load(str(folder))

    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pyc")]
    assert (folder / "artifacts" / "trained" / "model.tflite").read_bytes() == (
        finished.MODEL.read_bytes()
    )
    assert (folder / "requirements.txt").read_text().split() == registry.requirements()
    assert all("==" in line for line in registry.requirements())
    (images,) = info.signature.inputs.inputs
    assert (images.type, images.shape) == (np.dtype(object), (-1,))
    assert info.signature.outputs.input_names() == ["label", "probability", "p_dark", "p_bright"]
    (text,) = info.load_input_example(str(folder))["image"]
    assert decode(from_base64(text), 10_000).shape == (2, 2, 1)


@pytest.mark.slow
def test_a_stranger_without_the_checkout_can_use_it(
    registered: tuple[Workspace, Registered], checkout: Path
) -> None:
    workspace, _ = registered
    uri = tracking.configure(workspace).uri
    done = subprocess.run(
        [sys.executable, "-c", USER, uri, str(checkout)],
        cwd=workspace.root,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "type hints to the `predict`" not in done.stderr
    (dark, photographs, mixed), modules, imported = json.loads(done.stdout.splitlines()[-1])
    assert modules["graftline"].startswith(str(model_folder(workspace)))
    assert [row["label"] for row in dark] == ["dark", "dark"]
    assert [row["label"] for row in photographs] == ["bright"]
    assert [row["label"] for row in mixed] == ["dark", "bright"]
    for row in [*dark, *photographs, *mixed]:
        assert row["probability"] == row[f"p_{row['label']}"]
        assert row["p_dark"] + row["p_bright"] == pytest.approx(1, abs=1e-6)
    assert "tensorflow" not in imported


def test_images_come_as_arrays_as_base64_and_as_numbers_of_json(
    registered: tuple[Workspace, Registered],
) -> None:
    workspace, _ = registered
    model = mlflow.pyfunc.load_model(str(model_folder(workspace)))
    images = np.random.default_rng(0).integers(90, 160, (3, 28, 20, 3), dtype=np.uint8)
    texts = [in_base64(image) for image in images]
    asked = {
        "array": images,
        "array of texts": np.array(texts),
        "table": pd.DataFrame({"image": texts}),
        "dataframe_records": parsed({"dataframe_records": [{"image": text} for text in texts]}),
        "dataframe_split": parsed(
            {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}}
        ),
        "inputs": parsed({"inputs": texts}),
        "instances": parsed({"instances": [f"data:image/png;base64,{text}" for text in texts]}),
        "numbers": parsed({"inputs": images.tolist()}),
    }

    answers = {name: model.predict(given) for name, given in asked.items()}
    for name, answer in answers.items():
        pd.testing.assert_frame_equal(answer, answers["array"], check_exact=True, obj=name)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (np.zeros((1, 28, 28, 1), np.float32), "float32"),
        (np.array([[[[300]]]], dtype=object), "int64"),
        (np.array(["no base64!"]), "is no base64"),
        (np.array([in_base64(NOISE)[:400]]), "image 0 cannot be decoded"),
        (pd.DataFrame({"image": [None]}), "NoneType|object"),
    ],
)
def test_what_is_no_image_is_refused(
    registered: tuple[Workspace, Registered], images: Any, reason: str
) -> None:
    workspace, _ = registered
    model = mlflow.pyfunc.load_model(str(model_folder(workspace)))

    with pytest.raises(mlflow.exceptions.MlflowException, match=reason):
        model.predict(images)


def test_the_same_weights_are_one_version(registered: tuple[Workspace, Registered]) -> None:
    workspace, first = registered
    second = register(workspace, PARAMS, tracking.open_run(workspace, PARAMS))

    assert second.already_registered
    assert (second.version, second.run_id) == (first.version, first.run_id)
    versions = histories.client_of(workspace).search_model_versions("name='graftline'")
    assert len(versions) == 1


def test_new_weights_are_a_new_version_and_the_challenger(
    registered: tuple[Workspace, Registered],
) -> None:
    workspace, _ = registered
    finished.train(workspace, "second")
    second = register(workspace, PARAMS, tracking.open_run(workspace, PARAMS))

    assert (second.version, second.already_registered) == ("2", False)
    client = histories.client_of(workspace)
    assert client.get_model_version_by_alias("graftline", "challenger").version == 2
    assert client.get_model_version("graftline", "1").aliases == []


def test_weights_of_long_ago_are_found_and_classes_of_another_name_are_another_model(
    registered: tuple[Workspace, Registered], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, first = registered
    finished.train(workspace, "second")
    register(workspace, PARAMS, tracking.open_run(workspace, PARAMS))
    finished.train(workspace, "first")
    third = register(workspace, PARAMS, tracking.open_run(workspace, PARAMS))

    assert (third.version, third.run_id) == (first.version, first.run_id)
    client = histories.client_of(workspace)
    assert client.get_model_version_by_alias("graftline", "challenger").version == 1

    monkeypatch.setattr(finished, "CLASSES", ("dark", "glaring"))
    finished.train(workspace, "first")
    renamed = register(workspace, PARAMS, tracking.open_run(workspace, PARAMS))
    assert (renamed.version, renamed.already_registered) == ("3", False)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("model.tflite", "a bit"),
        ("trained.json", "removed"),
        *(
            pytest.param(name, harm, marks=pytest.mark.slow)
            for name, harm in (
                ("model.tflite", "removed"),
                ("trained.json", "a bit"),
                ("XXH128SUMS", "removed"),
                ("XXH128SUMS", "a bit"),
            )
        ),
    ],
)
def test_a_version_whose_files_are_not_whole_gets_a_successor(
    registered: tuple[Workspace, Registered], name: str, harm: str
) -> None:
    workspace, first = registered
    file = model_folder(workspace) / "artifacts" / "trained" / name
    file.unlink() if harm == "removed" else rot(file, 99)
    # As a flow that finds nothing stale does it, for the run that it was trained in.
    second = register(workspace, PARAMS, first.run_id)

    if (name, harm) == ("XXH128SUMS", "removed"):
        # As versions of before there was such a list: the tags have the digests too.
        assert second.already_registered
        return
    assert (second.version, second.already_registered) == ("2", False)
    version = tracking.find_version(workspace, "graftline", "2")
    assert version is not None
    assert (tracking.fetch_model(workspace, version) / "model.tflite").is_file()


def test_an_alias_that_was_taken_away_comes_back(registered: tuple[Workspace, Registered]) -> None:
    workspace, _ = registered
    client = histories.client_of(workspace)
    client.delete_registered_model_alias("graftline", "challenger")
    again = register(workspace, PARAMS, tracking.open_run(workspace, PARAMS))

    assert again.already_registered
    assert client.get_model_version_by_alias("graftline", "challenger").version == 1


def test_the_models_name_is_a_parameter(tracked: Workspace) -> None:
    named = PARAMS.model_copy(
        update={"register_": PARAMS.register_.model_copy(update={"model_name": "digits"})}
    )
    receipt = register(tracked, named, tracking.open_run(tracked, named))

    assert receipt.model_uri == "models:/digits/1"


def test_a_run_carries_its_model_once(tracked: Workspace) -> None:
    run_id = tracking.open_run(tracked, PARAMS)
    register(tracked, PARAMS, run_id)
    tracking.complete_run(run_id, tracked, PARAMS)
    register(tracked, PARAMS, run_id)

    client = histories.client_of(tracked)
    (model,) = client.search_logged_models([client.get_run(run_id).info.experiment_id])
    (output,) = client.get_run(run_id).outputs.model_outputs
    assert (output.model_id, model.name) == (model.model_id, "model")


def test_without_metrics_there_is_nothing_to_register(tracked: Workspace) -> None:
    tracked.metrics.unlink()

    with pytest.raises(MissingOutputError):
        register(tracked, PARAMS, "no run")


def test_what_a_failing_upload_leaves_is_no_version(
    tracked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    run_id = tracking.open_run(tracked, PARAMS)
    monkeypatch.setattr("mlflow.MlflowClient.log_model_artifacts", full)
    with pytest.raises(StorageFullError):
        register(tracked, PARAMS, run_id)
    monkeypatch.undo()

    client = histories.client_of(tracked)
    assert client.search_model_versions("name='graftline'") == []
    assert register(tracked, PARAMS, run_id).version == "1"
