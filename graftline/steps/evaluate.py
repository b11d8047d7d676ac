"""Evaluate: measures the exported model on the whole test split, each image exactly once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from graftline.compute.devices import settled_device
from graftline.core.csv_files import write_csv
from graftline.core.errors import DataError, MissingOutputError, not_there_yet
from graftline.core.files import replacing_directory
from graftline.core.params import Params
from graftline.core.records import ClassReport, Dataset, Metrics, Trained
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.evaluation import plots, style
from graftline.evaluation.calibration import Reliability
from graftline.evaluation.predictions import LIKELIEST, Predictions, measure
from graftline.evaluation.predictor import split_predictions
from graftline.training.history import read_history

if TYPE_CHECKING:
    from matplotlib.figure import Figure

History = dict[str, list[float]]
_NAMED = 20
_HISTORY_COLUMNS = ("epoch", "loss", "accuracy", "validation_loss", "validation_accuracy")


def evaluate(workspace: Workspace, params: Params) -> Metrics:
    """Measures the exported model on raw test images and draws what it finds.

    Writes ``reports/metrics.json`` and ``reports/evaluation/``: ``predictions.parquet``,
    ``classes.json``, ``confusion.csv``, ``calibration.csv`` and four figures. Both are replaced
    when everything has been computed and drawn; until then the earlier ones stay.

    Args:
        workspace: Where ``load`` and ``train`` have written their outputs.
        params: Of which ``evaluate`` and ``compute.device`` are read.

    Raises:
        MissingOutputError: If an output of an earlier step is absent, or they do not fit together.
        DataError: If there is no test image, or a label is beyond the classes.
        TrainingDivergedError: If the model answers with what are no probabilities.
    """
    settled_device(params.compute.device)
    dataset = Dataset.read_in(workspace)
    trained = Trained.read_in(workspace)
    history = _read_history(workspace, trained.best_epoch)
    images = PackedImages.open(workspace.loaded)
    test = images.indices("test")
    _check(dataset, trained, images.labels[test], workspace)

    predictions = split_predictions(workspace.trained, trained, images, test, params.compute.device)
    metrics = measure(predictions, dataset, params.evaluate.calibration_bins)
    gallery = _gallery(predictions, images, test, trained.classes, params.evaluate.worst_mistakes)
    with replacing_directory(workspace.evaluation, sealed=True) as folder:
        ClassReport(classes=metrics.classes).write(folder / "classes.json")
        _write_predictions(
            folder, predictions, images.names[test], images.hashes[test], trained.classes
        )
        _write_confusion(folder, predictions, trained.classes)
        table = predictions.reliability(params.evaluate.calibration_bins)
        _write_calibration(folder, table)
        interval = metrics.test_accuracy_low, metrics.test_accuracy_high
        for name, figure in (
            ("learning_curves", plots.learning_curves(history, trained.best_epoch)),
            ("confusion_matrix", _confusion(predictions, trained.classes, interval)),
            ("reliability", plots.reliability_diagram(table)),
            ("worst_mistakes", plots.worst_mistakes(gallery, int((~predictions.right).sum()))),
        ):
            style.save(figure, folder / f"{name}.png")
        metrics.write(workspace.metrics)
    return metrics


def _check(
    dataset: Dataset, trained: Trained, labels: NDArray[np.int32], workspace: Workspace
) -> None:
    if dataset.classes != trained.classes:
        raise MissingOutputError(
            f"the model was trained on other classes ({_few(trained.classes)}) than the data have "
            f"({_few(dataset.classes)})",
            where=str(Trained.path_in(workspace)),
            fix="run dvc repro, which trains it anew",
        )
    if not len(labels):
        raise DataError(
            "the test split has no image",
            where=str(workspace.loaded),
            fix="add test images to the source, or let data.test_fraction split some off",
        )
    if labels.min() < 0 or labels.max() >= len(dataset.classes):
        raise DataError(
            f"a test image has label {labels.max() if labels.min() >= 0 else labels.min()}",
            where=str(workspace.loaded / "manifest.parquet"),
            allowed=f"0 to {len(dataset.classes) - 1}, for the {len(dataset.classes)} classes",
            fix="run dvc repro --force load, which reads the source anew",
        )


def _few(names: tuple[str, ...]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _read_history(workspace: Workspace, best_epoch: int) -> History:
    path = workspace.history
    try:
        rows = read_history(workspace)
        history = {name: [float(row[name]) for row in rows] for name in _HISTORY_COLUMNS}
        history["epoch"] = [int(epoch) for epoch in history["epoch"]]
    except FileNotFoundError as error:
        raise not_there_yet(path, by="train") from error
    except (KeyError, TypeError, ValueError) as error:
        raise _odd_history(path, f"cannot be read ({error})") from error
    if best_epoch not in history["epoch"]:
        raise _odd_history(path, f"lacks epoch {best_epoch}, whose weights were kept")
    return history


def _odd_history(path: Path, what: str) -> MissingOutputError:
    return MissingOutputError(
        f"the training history {what}",
        where=str(path),
        allowed=f"the columns {', '.join(_HISTORY_COLUMNS)}, one row per epoch",
        fix="run dvc repro --force train, which writes it anew",
    )


def _gallery(
    predictions: Predictions,
    images: PackedImages,
    test: NDArray[np.int64],
    classes: tuple[str, ...],
    most: int,
) -> list[plots.Mistake]:
    wrong = np.flatnonzero(~predictions.right)
    surest_first = wrong[np.argsort(-predictions.confidence[wrong], kind="stable")]
    return [
        plots.Mistake(
            image=plots.thumbnail(images.image(int(test[row]))),
            label=classes[predictions.labels[row]],
            predicted=classes[predictions.predicted[row]],
            probability=float(predictions.confidence[row]),
        )
        for row in surest_first[:most]
    ]


def _write_predictions(
    folder: Path,
    predictions: Predictions,
    names: NDArray[np.object_],
    hashes: NDArray[np.object_],
    classes: tuple[str, ...],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    class_names = np.array(classes, object)
    columns = {
        "source": names,
        "sha256": hashes,
        "label": class_names[predictions.labels],
        "predicted": class_names[predictions.predicted],
        "probability": predictions.confidence,
    }
    if predictions.kept is None:
        columns |= {
            f"probability_{name}": predictions.probabilities[:, index]
            for index, name in enumerate(classes)
        }
    else:
        for place in range(1, LIKELIEST):
            columns[f"predicted_{place + 1}"] = class_names[predictions.kept[:, place]]
            columns[f"probability_{place + 1}"] = predictions.probabilities[:, place]
    pq.write_table(pa.table(columns), folder / "predictions.parquet", compression="zstd")


def _confusion(
    predictions: Predictions, classes: tuple[str, ...], interval: tuple[float, float]
) -> Figure:
    if len(classes) <= plots.MOST_IN_MATRIX:
        return plots.confusion_matrix(predictions.confusion(), classes, interval)
    support = np.bincount(predictions.labels, minlength=len(classes))
    right = np.bincount(predictions.labels[predictions.right], minlength=len(classes))
    pairs = predictions.most_confused(plots.PAIRS_SHOWN)
    return plots.most_confused(pairs, right, support, classes, interval)


def _write_confusion(folder: Path, predictions: Predictions, classes: tuple[str, ...]) -> None:
    # One row per image: DVC's confusion template counts the rows itself.
    shown = np.ones(len(predictions.labels), bool)
    if len(classes) > plots.MOST_IN_MATRIX:
        # It draws a cell for every two classes, which nobody can read, nor a browser hold.
        worst = [true for true, _, _ in predictions.most_confused(plots.PAIRS_SHOWN)]
        shown = np.isin(predictions.labels, worst) & ~predictions.right
    answers = zip(predictions.labels[shown], predictions.predicted[shown], strict=True)
    rows = ((classes[label], classes[predicted]) for label, predicted in answers)
    write_csv(folder / "confusion.csv", ("actual", "predicted"), rows)


def _write_calibration(folder: Path, table: Reliability) -> None:
    rows: list[tuple[object, ...]] = []
    bins = zip(table.images, table.confidence, table.accuracy, strict=True)
    for index, (images, confidence, accuracy) in enumerate(bins):
        measured = (float(confidence), float(accuracy)) if images else ("", "")
        start, end = (round(float(edge), 6) for edge in table.edges[index : index + 2])
        rows.append((start, end, int(images), *measured))
    columns = ("from", "to", "images", "confidence", "accuracy")
    write_csv(folder / "calibration.csv", columns, rows)
