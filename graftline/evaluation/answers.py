"""The answers of a model to the test split, by image, so that two models can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graftline.core.checksums import verify
from graftline.core.errors import MissingOutputError
from graftline.core.files import sha256_record
from graftline.core.records import Dataset, Trained
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages

FILE = "predictions.parquet"
_COLUMNS = ("sha256", "label", "predicted")


@dataclass(frozen=True)
class TestSplit:
    """The images that models are compared on.

    Args:
        hashes: The SHA-256 of each image, (n,).
        labels: The name of each one's class, (n,).
    """

    # pytest takes what is called Test for tests.
    __test__ = False

    hashes: NDArray[np.object_]
    labels: NDArray[np.object_]

    @property
    def digest(self) -> str:
        """SHA-256 over every image's hash and label, in the manifest's order."""
        return sha256_record([self.hashes.tolist(), self.labels.tolist()])


@dataclass(frozen=True)
class Answers:
    """A model's answers to a test split.

    Args:
        split: The images.
        predicted: The name of the class that is the most probable for each, (n,).
    """

    split: TestSplit
    predicted: NDArray[np.object_]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each answer is right, (n,)."""
        right: NDArray[np.bool_] = self.predicted == self.split.labels
        return right

    def only(self, chosen: NDArray[np.bool_]) -> Answers:
        """The answers to some of the images, (n,)."""
        split = TestSplit(self.split.hashes[chosen], self.split.labels[chosen])
        return Answers(split, self.predicted[chosen])


def present_split(workspace: Workspace) -> TestSplit:
    """The test split that lies in ``data/loaded``.

    Raises:
        MissingOutputError: If it is not there.
    """
    dataset = Dataset.read_in(workspace)
    images = PackedImages.open(workspace.loaded)
    test = images.indices("test")
    names = np.array(dataset.classes, object)
    return TestSplit(images.hashes[test], names[images.labels[test]])


def read_answers(path: Path) -> Answers:
    """The answers that ``evaluate`` wrote.

    Raises:
        MissingOutputError: If they are not there, or cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    verify(path)
    try:
        table = pq.read_table(path, columns=list(_COLUMNS))
        hashes, labels, predicted = (_texts(table.column(name)) for name in _COLUMNS)
    except FileNotFoundError as error:
        raise _unread(path, "is not there yet") from error
    except (pa.ArrowException, KeyError, OSError) as error:
        raise _unread(path, f"cannot be read: {error}") from error
    return Answers(TestSplit(hashes, labels), predicted)


def ask(folder: Path, workspace: Workspace) -> Answers:
    """Has a model answer the test split that lies in ``data/loaded``, as ``evaluate`` does.

    Args:
        folder: The model's, with ``model.tflite`` and ``trained.json``.
        workspace: Where the images lie.

    Raises:
        MissingOutputError: If the model or the images are not there.
        TrainingDivergedError: If the model answers with what are no probabilities.
    """
    from graftline.evaluation.predictor import split_predictions

    trained = Trained.read(folder / Trained.file_name())
    images = PackedImages.open(workspace.loaded)
    found = split_predictions(folder, trained, images, images.indices("test"))
    names = np.array(trained.classes, object)
    return Answers(present_split(workspace), names[found.predicted])


def _texts(column: object) -> NDArray[np.object_]:
    values: list[str] = column.to_pylist()  # type: ignore[attr-defined]
    return np.array(values, object)


def _unread(path: Path, what: str) -> MissingOutputError:
    return MissingOutputError(
        f"{path} {what}",
        where=str(path),
        fix="run dvc repro --force evaluate, which writes it anew",
    )
