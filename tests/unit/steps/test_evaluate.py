"""Evaluate: exact small cases, every test image once and no other, and nothing lost on failure."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from graftline.core.errors import (
    DataError,
    GraftlineError,
    MissingOutputError,
    TrainingDivergedError,
)
from graftline.core.params import Params, params_from_record
from graftline.core.records import Dataset, Metrics, Trained
from graftline.core.workspace import Workspace
from graftline.data.decoding import content_hash
from graftline.data.shards import RAW, ShardWriter, write_manifest
from graftline.evaluation import predictor as predictor_module
from graftline.evaluation import style
from graftline.evaluation.predictions import Predictions, measure
from graftline.steps.evaluate import _confusion, _write_confusion, _write_predictions, evaluate

CLASSES = ("ant", "bee", "cow")
SIZE_PX = 8
# What each test image is, and what the model says of it.
LABELS = [0, 0, 1, 1, 2]
ANSWERS = [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.1, 0.9, 0.0], [0.2, 0.5, 0.3], [0.7, 0.1, 0.2]]
FIGURE_NAMES = ("learning_curves", "confusion_matrix", "reliability", "worst_mistakes")


class Model:
    """Answers as told, in the order of the test images, and notes what it is shown."""

    def __init__(self, answers: object = ANSWERS) -> None:
        self.answers = answers
        self.seen: list[np.ndarray] = []

    def __call__(self, folder: Path, device: str) -> contextlib.AbstractContextManager[Model]:
        assert (folder / "trained.json").is_file()
        assert device in ("auto", "cpu", "gpu")
        return contextlib.nullcontext(self)

    def probabilities_and_logits(
        self, images: Iterable[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        self.seen += list(images)
        answers = np.array(self.answers, np.float32)
        return answers, logits_of(answers)


def logits_of(probabilities: np.ndarray) -> np.ndarray:
    """Such that the softmax gives these, but for those of 0, which come out as e to the -200."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(np.log(probabilities), np.float32(-200))


def dataset_of(labels_by_split: dict[str, list[int]]) -> Dataset:
    return Dataset(
        source="made up",
        digest="0" * 64,
        classes=CLASSES,
        counts={  # type: ignore[arg-type]
            split: {name: labels.count(index) for index, name in enumerate(CLASSES)}
            for split, labels in labels_by_split.items()
        },
        given_splits=(),
        channels=(1, 3),
        min_height_px=4,
        max_height_px=8,
        min_width_px=4,
        max_width_px=8,
        corrupt=0,
        duplicates=0,
        leaks=0,
        conflicts=0,
    )


def write_loaded(workspace: Workspace, labels_by_split: dict[str, list[int]]) -> None:
    """Images of different shapes, no two the same, the splits interleaved in the manifest."""
    workspace.loaded.mkdir(parents=True, exist_ok=True)
    dataset_of(labels_by_split).write(workspace.loaded / "dataset.json")
    random = np.random.default_rng(0)
    waiting = {split: list(labels) for split, labels in labels_by_split.items()}
    rows = []
    with ShardWriter(workspace.loaded) as shards:
        while any(waiting.values()):
            for split in [split for split, labels in waiting.items() if labels]:
                shape = (*random.integers(4, 9, 2).tolist(), (1, 3)[len(rows) % 2])
                image = random.integers(0, 256, shape, np.uint8)
                label = waiting[split].pop(0)
                shard, offset, length = shards.append(image.tobytes())
                rows.append(
                    {
                        "sha256": content_hash(image),
                        "label": label,
                        "class": CLASSES[label] if label < len(CLASSES) else "?",
                        "split": split,
                        "source": f"{split}/{len(rows)}",
                        "encoding": RAW,
                        "shard": shard,
                        "offset": offset,
                        "length": length,
                        "height": shape[0],
                        "width": shape[1],
                        "channels": shape[2],
                    }
                )
    write_manifest(workspace.loaded, {name: [row[name] for row in rows] for name in rows[0]})


def trained_record(**changes: object) -> Trained:
    values: dict[str, object] = {
        "classes": CLASSES,
        "size_px": SIZE_PX,
        "best_epoch": 2,
        "epochs_run": 2,
        "validation_accuracy": 0.9,
        "validation_loss": 0.3,
        "weight_digest": "1" * 64,
        "frozen_digest_before": "2" * 64,
        "frozen_digest_after": "2" * 64,
        "trainable_params": 10,
        "frozen_params": 20,
    }
    return Trained(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def params() -> Params:
    record = {"data": {"source": "mnist-5k"}, "backbone": {"weights": "random"}}
    return params_from_record(record | {"evaluate": {"calibration_bins": 4}}, "here")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    write_loaded(made, {"train": [1, 1, 1, 1, 0, 0, 2, 2], "validation": [0, 1, 2], "test": LABELS})
    made.trained.mkdir(parents=True)
    trained_record().write(made.trained / "trained.json")
    made.history.parent.mkdir(parents=True)
    made.history.write_text(
        "epoch,loss,accuracy,validation_loss,validation_accuracy,learning_rate\n"
        "1,1.0,0.5,0.9,0.6,0.001\n"
        "2,0.5,0.8,0.7,0.7,0.001\n"
    )
    return made


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    made = Model()
    monkeypatch.setattr(predictor_module, "Predictor", made)
    return made


def outputs(workspace: Workspace) -> dict[str, bytes]:
    folder = workspace.metrics.parent
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != workspace.history
    }


def test_a_case_done_by_hand(workspace: Workspace, params: Params, model: Model) -> None:
    metrics = evaluate(workspace, params)

    assert metrics.test_images == 5
    assert metrics.test_accuracy == pytest.approx(3 / 5)
    # Wilson's interval: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), z = 1.959964
    z, p, n = 1.959964, 0.6, 5
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    middle, scale = p + z * z / (2 * n), 1 + z * z / n
    assert metrics.test_accuracy_low == pytest.approx((middle - half) / scale, rel=1e-5)
    assert metrics.test_accuracy_high == pytest.approx((middle + half) / scale, rel=1e-5)
    loss = -sum(math.log(p) for p in (0.8, 0.3, 0.9, 0.5, 0.2)) / 5
    assert metrics.test_loss == pytest.approx(loss, rel=1e-5)
    # The most frequent class in training is bee, which two of the five are.
    assert metrics.majority_baseline == pytest.approx(2 / 5)
    by_class = {
        name: (one.precision, one.recall, one.f1, one.support)
        for name, one in metrics.classes.items()
    }
    assert by_class["ant"] == pytest.approx((1 / 2, 1 / 2, 1 / 2, 2))
    assert by_class["bee"] == pytest.approx((2 / 3, 1, 4 / 5, 2))
    assert by_class["cow"] == pytest.approx((0, 0, 0, 1))
    assert metrics.test_macro_f1 == pytest.approx((0.5 + 0.8 + 0) / 3)
    # Bins: (0.25, 0.5] holds 0.5 right; (0.5, 0.75] 0.6 and 0.7, both wrong; above 0.8, 0.9 right.
    ece = (1 * abs(1 - 0.5) + 2 * abs(0 - 0.65) + 2 * abs(1 - 0.85)) / 5
    assert metrics.expected_calibration_error == pytest.approx(ece, rel=1e-5)


def test_the_model_is_shown_each_test_image_once_and_no_other(
    workspace: Workspace, params: Params, model: Model
) -> None:
    evaluate(workspace, params)
    manifest = pq.read_table(workspace.loaded / "manifest.parquet").to_pylist()
    assert [content_hash(image) for image in model.seen] == [
        row["sha256"] for row in manifest if row["split"] == "test"
    ]


def test_larger_images_are_shrunk_to_the_models_size(
    workspace: Workspace, params: Params, model: Model
) -> None:
    trained_record(size_px=5).write(workspace.trained / "trained.json")
    evaluate(workspace, params)
    assert max(max(image.shape[:2]) for image in model.seen) == 5


def test_the_files_hold_what_was_measured(
    workspace: Workspace, params: Params, model: Model
) -> None:
    metrics = evaluate(workspace, params)
    flat = json.loads(workspace.metrics.read_text())
    # Of these DVC makes a row; a list it leaves out.
    assert isinstance(flat.pop("sha256"), list)
    assert all(isinstance(value, int | float) for value in flat.values()), "no short row for DVC"
    assert Metrics.read(workspace.metrics) == metrics

    predictions = pq.read_table(workspace.evaluation / "predictions.parquet").to_pydict()
    manifest = pq.read_table(workspace.loaded / "manifest.parquet").to_pylist()
    test = [row for row in manifest if row["split"] == "test"]
    assert predictions["source"] == [row["source"] for row in test]
    assert predictions["sha256"] == [row["sha256"] for row in test]
    assert predictions["label"] == ["ant", "ant", "bee", "bee", "cow"]
    assert predictions["predicted"] == ["ant", "bee", "bee", "bee", "ant"]
    assert predictions["probability"] == pytest.approx([0.8, 0.6, 0.9, 0.5, 0.7])
    for index, name in enumerate(CLASSES):
        assert predictions[f"probability_{name}"] == pytest.approx([a[index] for a in ANSWERS])

    with (workspace.evaluation / "confusion.csv").open(newline="") as file:
        pairs = [(row["actual"], row["predicted"]) for row in csv.DictReader(file)]
    assert pairs == list(zip(predictions["label"], predictions["predicted"], strict=True))
    with (workspace.evaluation / "calibration.csv").open(newline="") as file:
        bins = list(csv.DictReader(file))
    assert [int(row["images"]) for row in bins] == [0, 1, 2, 2]
    assert bins[0]["accuracy"] == ""
    assert [float(row["accuracy"]) for row in bins[1:]] == [1, 0, 1]
    for name in FIGURE_NAMES:
        with Image.open(workspace.evaluation / f"{name}.png") as image:
            assert image.format == "PNG"
            assert min(image.size) >= 90


def test_two_runs_write_the_same_bytes(workspace: Workspace, params: Params, model: Model) -> None:
    evaluate(workspace, params)
    once = outputs(workspace)
    evaluate(workspace, params)
    assert outputs(workspace) == once
    # The metrics; answers, classes, confusion, calibration and the checksums; the figures.
    assert len(once) == 1 + 5 + len(FIGURE_NAMES)


def test_a_class_without_test_images_is_told_by_its_support(
    workspace: Workspace, params: Params, model: Model
) -> None:
    write_loaded(workspace, {"train": [0, 1, 2], "test": [0, 0, 1, 1]})
    model.answers = ANSWERS[:4]
    metrics = evaluate(workspace, params)
    assert metrics.classes["cow"].support == 0
    assert metrics.test_macro_f1 == pytest.approx(
        (metrics.classes["ant"].f1 + metrics.classes["bee"].f1) / 2
    )


def test_no_mistake_at_all(workspace: Workspace, params: Params, model: Model) -> None:
    model.answers = np.eye(3)[LABELS]
    metrics = evaluate(workspace, params)
    assert metrics.test_accuracy == metrics.test_macro_f1 == 1
    assert 0 <= metrics.test_loss < 1e-80
    assert metrics.expected_calibration_error == 0


def test_a_sure_mistake_counts_in_full(workspace: Workspace, params: Params, model: Model) -> None:
    # The first image is an ant, and its probability is too small for 32 bits.
    model.answers = [[0.0, 1.0, 0.0], *np.eye(3)[LABELS[1:]]]
    assert evaluate(workspace, params).test_loss == pytest.approx(200 / 5)


def _without(path: Callable[[Workspace], Path]) -> Callable[[Workspace, Model], None]:
    return lambda workspace, _: path(workspace).unlink()


def _history(text: str) -> Callable[[Workspace, Model], None]:
    return lambda workspace, _: _ignore(workspace.history.write_text(text))


def _ignore(_: object) -> None:
    return None


def _answers(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Workspace, Model], None]:
    def harm(_: Workspace, model: Model) -> None:
        model.answers = change(np.array(ANSWERS))

    return harm


def _with_nan(answers: np.ndarray) -> np.ndarray:
    answers[3, 1] = np.nan
    return answers


HARMS: dict[str, tuple[Callable[[Workspace, Model], None], type[GraftlineError], str]] = {
    "no data set": (_without(lambda w: w.loaded / "dataset.json"), MissingOutputError, "dvc repro"),
    "no manifest": (
        _without(lambda w: w.loaded / "manifest.parquet"),
        MissingOutputError,
        "dvc repro",
    ),
    "no model": (_without(lambda w: w.trained / "trained.json"), MissingOutputError, "dvc repro"),
    "no history": (_without(lambda w: w.history), MissingOutputError, "train writes it"),
    "an empty history": (_history(""), MissingOutputError, "lacks epoch 2"),
    "a history of words": (
        _history("epoch,loss,accuracy,validation_loss,validation_accuracy\n1,a,b,c,d\n"),
        MissingOutputError,
        "could not convert",
    ),
    "a history without columns": (_history("epoch,loss\n2,0.1\n"), MissingOutputError, "accuracy"),
    "other classes": (
        lambda w, _: trained_record(classes=("ant", "bee")).write(w.trained / "trained.json"),
        MissingOutputError,
        "other classes (ant, bee)",
    ),
    "no test image": (
        lambda w, _: write_loaded(w, {"train": [0, 1, 2], "test": []}),
        DataError,
        "no image",
    ),
    "a label beyond": (
        lambda w, _: write_loaded(w, {"train": [0, 1, 2], "test": [0, 3]}),
        DataError,
        "has label 3",
    ),
    "answers too few": (_answers(lambda a: a[:4]), MissingOutputError, "(4, 3), not (5, 3)"),
    "answers of NaN": (_answers(_with_nan), TrainingDivergedError, "1 of 5"),
    "answers of logits": (_answers(lambda a: a * 7), TrainingDivergedError, "no probabilities"),
}


@pytest.fixture
def earlier(workspace: Workspace) -> dict[str, bytes]:
    """What an earlier evaluation is taken to have left."""
    workspace.evaluation.mkdir(parents=True)
    (workspace.evaluation / "worst_mistakes.png").write_bytes(b"an earlier figure")
    workspace.metrics.write_text("earlier metrics")
    return outputs(workspace)


@pytest.mark.parametrize("harm", HARMS)
def test_bad_input_is_explained_and_earlier_outputs_stay(
    harm: str, workspace: Workspace, params: Params, model: Model, earlier: dict[str, bytes]
) -> None:
    change, kind, says = HARMS[harm]
    change(workspace, model)
    with pytest.raises(kind) as caught:
        evaluate(workspace, params)
    assert says in str(caught.value)
    assert caught.value.exit_code == 2
    assert caught.value.where
    assert caught.value.fix
    assert outputs(workspace) == earlier


@pytest.mark.parametrize("drawn", [0, len(FIGURE_NAMES) - 1])
def test_a_failure_while_drawing_leaves_earlier_outputs(
    drawn: int,
    workspace: Workspace,
    params: Params,
    model: Model,
    earlier: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save, saved = style.save, []

    def failing(figure: Figure, path: Path) -> None:
        if len(saved) == drawn:
            raise KeyboardInterrupt
        save(figure, path)
        saved.append(path)

    monkeypatch.setattr(style, "save", failing)
    with pytest.raises(KeyboardInterrupt):
        evaluate(workspace, params)
    assert outputs(workspace) == earlier


def test_the_module_is_imported_quickly() -> None:
    heavy = ["tensorflow", "keras", "sklearn", "scipy", "matplotlib", "pandas", "mlflow"]
    code = f"import sys, graftline.steps.evaluate; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@st.composite
def some_predictions(draw: st.DrawFn) -> Predictions:
    count = draw(st.integers(1, 30))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = random.normal(0, draw(st.sampled_from([0.1, 3.0, 60.0])), (count, 3))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    labels = random.integers(0, 3, count).astype(np.int32)
    return Predictions.of(labels, probabilities, logits.astype(np.float32))


@given(some_predictions(), st.integers(2, 30))
@settings(max_examples=50)
def test_what_holds_for_any_predictions(predictions: Predictions, bins: int) -> None:
    metrics = measure(predictions, dataset_of({"train": [2, 0, 2]}), bins)
    assert 0 <= metrics.test_accuracy_low <= metrics.test_accuracy <= metrics.test_accuracy_high
    assert metrics.test_accuracy_high <= 1
    assert 0 <= metrics.expected_calibration_error <= 1
    assert 0 <= metrics.test_macro_f1 <= 1
    assert 0 <= metrics.test_loss < math.inf
    assert metrics.majority_baseline == pytest.approx(np.mean(predictions.labels == 2))
    confusion = predictions.confusion()
    assert (
        confusion.sum()
        == metrics.test_images
        == sum(one.support for one in metrics.classes.values())
    )
    assert np.trace(confusion) / confusion.sum() == pytest.approx(metrics.test_accuracy)
    for index, one in enumerate(metrics.classes.values()):
        if one.support:
            assert one.recall == pytest.approx(confusion[index, index] / confusion[index].sum())


def many_classes(count: int = 300, images: int = 2000) -> Predictions:
    random = np.random.default_rng(2)
    labels = random.integers(0, count, images).astype(np.int32)
    logits = random.normal(size=(images, count)).astype(np.float32)
    logits[np.arange(images), labels] += 3
    weights = np.exp(logits)
    return Predictions.of(labels, weights / weights.sum(axis=1, keepdims=True), logits)


def test_of_many_classes_the_likeliest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    few = many_classes()
    monkeypatch.setattr("graftline.evaluation.predictions.MOST_WHOLE", 1000)
    whole = many_classes()
    assert few.kept is not None
    assert whole.kept is None
    for name in ("predicted", "confidence", "losses"):
        assert getattr(few, name).tobytes() == getattr(whole, name).tobytes()
    order = np.argsort(-whole.probabilities, axis=1, kind="stable")[:, :5]
    assert few.kept.tolist() == order.tolist()
    assert (few.probabilities == np.take_along_axis(whole.probabilities, order, axis=1)).all()
    assert few.kept[:, 0].tolist() == few.predicted.tolist()


def test_the_most_confused_classes() -> None:
    predictions = many_classes()
    counts = predictions.confusion()
    assert counts.sum() == 2000
    np.fill_diagonal(counts, 0)
    pairs = predictions.most_confused(7)
    assert [count for _, _, count in pairs] == np.sort(counts, axis=None)[::-1][:7].tolist()
    assert all(counts[true, predicted] == count for true, predicted, count in pairs)


def test_files_of_many_classes(tmp_path: Path) -> None:
    predictions, names = many_classes(), tuple(f"class {number}" for number in range(300))
    hashes = np.full(2000, "0", object)
    _write_predictions(tmp_path, predictions, hashes, hashes, names)
    table = pq.read_table(tmp_path / "predictions.parquet")
    further = [f"{kind}_{place}" for place in range(2, 6) for kind in ("predicted", "probability")]
    assert table.column_names == [
        *("source", "sha256", "label", "predicted", "probability"),
        *further,
    ]
    first = table.slice(0, 1).to_pylist()[0]
    assert first["predicted_2"] == names[predictions.kept[0, 1]]  # type: ignore[index]
    assert first["probability_5"] == predictions.probabilities[0, 4]
    _write_confusion(tmp_path, predictions, names)
    with (tmp_path / "confusion.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert 30 <= len(rows) < 600
    assert all(row["actual"] != row["predicted"] for row in rows)


def test_the_picture_of_many_classes(tmp_path: Path) -> None:
    predictions, names = many_classes(), tuple(f"class {number}" for number in range(300))
    style.save(_confusion(predictions, names, (0.5, 0.6)), tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as picture:
        assert max(picture.size) < 2500
