"""Training, predict, batch, drift, serve, the registered model and the exports see the same pixels.

Every form of image file goes through every door, with a model whose answers tell of the pixels.
"""

from __future__ import annotations

import base64
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from graftline.core.files import write_text
from graftline.core.records import Preprocessed, Trained, WhiteLevels
from graftline.core.workspace import Workspace
from graftline.data.image_files import read_image
from graftline.data.shards import PackedImages
from graftline.evaluation.predictor import Predictor
from graftline.formats.contract import append_contract
from graftline.formats.runners import open_exported
from graftline.inference.batch.writer import held, predict_files, sample
from graftline.inference.model_choice import choose_model
from graftline.inference.predict import predict
from graftline.steps.load import load
from graftline.steps.preprocess import preprocess
from tests import finished
from tests.unit.data.image_forms import FORMS, TWELVE_BITS, Form
from tests.unit.data.loading import params, write_folder
from tests.unit.formats.test_exporting import contract
from tests.unit.inference.serving.service import asked, form

MODEL = Path(__file__).parents[2] / "data" / "brightness_features.tflite"
MAX_PX = 10_000


@dataclass(frozen=True)
class Place:
    """A data set of forms that has gone through load and preprocess, and a model trained on it."""

    workspace: Workspace
    forms: list[Form]
    files: list[Path]
    images: PackedImages

    @property
    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        """What the model says of the pixels as they are written down."""
        with Predictor(self.workspace.trained) as predictor:
            return predictor.probabilities_and_features(one.pixels for one in self.forms)

    def said(self, probabilities: list[dict[str, float]]) -> None:
        """Holds each form's answer against what is expected."""
        for one, answer, wanted in zip(self.forms, probabilities, self.expected[0], strict=True):
            assert [answer[name] for name in finished.CLASSES] == wanted.tolist(), one.name


@pytest.fixture(
    scope="module", params=[(None, FORMS), (4095, TWELVE_BITS)], ids=["full", "12 bits"]
)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    level, forms = request.param
    root = tmp_path_factory.mktemp("doors")
    workspace, source = Workspace(root / "checkout"), root / "source"
    write_folder(source, {"dark": 10, "bright": 10})
    files = [source / finished.CLASSES[at % 2] / f"form-{at:03}" for at in range(len(forms))]
    for file, one in zip(files, forms, strict=True):
        file.write_bytes(one.data)
    wanted = params("folder", source, white_level=level)
    load(workspace, wanted)
    record = preprocess(workspace, wanted)
    finished.train(workspace)
    shutil.copy(MODEL, workspace.trained / "model.tflite")
    trained = Trained.read(workspace.trained / "trained.json")
    trained.model_copy(update={"white": record.white, "size_px": 96}).write(
        workspace.trained / "trained.json"
    )
    # What the parameters say by now is no matter to a model that is trained.
    write_text(
        workspace.params_file,
        "data: {source: mnist-5k, white_level: 1}\nbackbone: {weights: random}\n",
    )
    return Place(workspace, forms, files, PackedImages.open(workspace.preprocessed))


def test_training_sees_them(place: Place) -> None:
    at = {Path(name).name: index for index, name in enumerate(place.images.names)}
    for file, one in zip(place.files, place.forms, strict=True):
        np.testing.assert_array_equal(place.images.image(at[file.name]), one.pixels, one.name)


def test_the_rule_is_recorded(place: Place) -> None:
    white = Preprocessed.read(place.workspace.preprocessed / "preprocessed.json").white
    assert white.level == (None if place.forms is FORMS else 4095)
    assert {"16-bit", "12-bit", "32-bit"} <= set(white.kinds)


def test_what_reads_files_for_prediction_sees_them(place: Place) -> None:
    with Predictor(place.workspace.trained) as predictor:
        for file, one in zip(place.files, place.forms, strict=True):
            read = read_image(file, MAX_PX, predictor.white)
            assert read.error is None, one.name
            np.testing.assert_array_equal(read.pixels, one.pixels, one.name)


def test_predict_sees_them(place: Place) -> None:
    place.said([one.probabilities for one in predict(place.files, place.workspace)])


def test_batch_and_drift_see_them(place: Place) -> None:
    import pyarrow.parquet as pq

    out = place.workspace.root / "out.parquet"
    model = choose_model(place.workspace, str(place.workspace.trained))
    with held(place.workspace, out):
        predict_files(model, [str(file) for file in place.files], out)
        drifting = sample(out, finished.CLASSES)
    rows = pq.read_table(out).to_pylist()
    place.said([{name: row[f"p_{name}"] for name in finished.CLASSES} for row in rows])
    assert drifting is not None
    np.testing.assert_array_equal(drifting.features, place.expected[1])


def test_serve_sees_them(place: Place) -> None:
    answers = []
    with asked(place.workspace.trained) as (client, _):
        for start in range(0, len(place.forms), 16):
            some = [one.data for one in place.forms[start : start + 16]]
            answers += client.post("/predict", files=form(*some)).json()["predictions"]
    place.said([answer["probabilities"] for answer in answers])


@pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")
def test_the_registered_model_sees_them(place: Place) -> None:
    from graftline.registry.tracking.pyfunc_model import Classifier

    classifier = Classifier()
    artifacts = {"trained": str(place.workspace.trained)}
    context = SimpleNamespace(artifacts=artifacts, model_config=None)
    classifier.load_context(context)  # type: ignore[arg-type]
    given = np.array([base64.b64encode(one.data).decode() for one in place.forms], object)
    table = classifier.predict(context, given)  # type: ignore[arg-type]
    rows = table.to_dict("records")
    place.said([{name: row[f"p_{name}"] for name in finished.CLASSES} for row in rows])


def test_exports_see_them(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    shutil.copy(MODEL, path)
    append_contract(path, contract())
    at = {Path(name).name: index for index, name in enumerate(place.images.names)}
    runner = open_exported("litert_float32", path)
    answers = [runner.run(place.images.batch([at[file.name]]))[0].tolist() for file in place.files]
    runner.close()
    place.said([dict(zip(finished.CLASSES, answer, strict=True)) for answer in answers])


def test_only_a_file_above_the_models_white_is_refused(place: Place, tmp_path: Path) -> None:
    bright = next(one for one in FORMS if one.name == "png 16 bits")
    (tmp_path / "bright.png").write_bytes(bright.data)
    (answer,) = predict([tmp_path / "bright.png"], place.workspace)
    above = "has the raw value 65535, above white, which is 4095 (data.white_level: 4095)"
    assert answer.error == (None if place.forms is FORMS else above)


def test_a_model_of_8_bit_images_refuses_what_it_cannot_tell(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    finished.train(workspace)
    assert Trained.read(workspace.trained / "trained.json").white == WhiteLevels()
    (tmp_path / "dim.png").write_bytes(TWELVE_BITS[0].data)
    (answer,) = predict([tmp_path / "dim.png"], workspace)
    assert answer.error == (
        "is a 16-bit image whose largest value is 4095, and what is white in it cannot be told: "
        "the training images were 8-bit ones; save it with 8 bits, or train with "
        "data.white_level set"
    )
