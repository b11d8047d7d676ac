"""``graftline predict``: names what is on image files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.errors import DataError, MissingOutputError
from graftline.core.workspace import Workspace
from graftline.data.decoding import Pixels
from graftline.data.image_files import largest_px, read_image
from graftline.data.sources.folder import printable
from graftline.evaluation.predictions import MOST_WHOLE
from graftline.evaluation.predictor import Predictor
from graftline.inference.inputs import Input, inputs

_RECORD = "trained.json"
_CHUNK_FILES = 256


@dataclass(frozen=True)
class Prediction:
    """What one file got: probabilities, or the reason why not."""

    file: str
    probabilities: dict[str, float]
    """By class, most probable first, 256 at most; empty if the file could not be read."""
    error: str | None = None

    @classmethod
    def of(
        cls, file: str, classes: Sequence[str], probabilities: NDArray[np.float32]
    ) -> Prediction:
        """The prediction that a row of the model's output is.

        Args:
            file: What got it.
            classes: The model's, in its order.
            probabilities: float32 (classes,).
        """
        order = np.argsort(-probabilities, kind="stable")[:MOST_WHOLE]
        return cls(file, {classes[index]: float(probabilities[index]) for index in order})

    @property
    def label(self) -> str | None:
        """The most probable class."""
        return next(iter(self.probabilities), None)

    @property
    def probability(self) -> float | None:
        """The most probable class's probability."""
        return next(iter(self.probabilities.values()), None)

    def to_record(self) -> dict[str, Any]:
        """The prediction for JSON, the same from the command line and from a server."""
        if self.error is not None:
            return {"file": self.file, "error": self.error}
        return {
            "file": self.file,
            "label": self.label,
            "probability": self.probability,
            "probabilities": self.probabilities,
        }

    def to_json(self) -> str:
        """The prediction as one JSON object."""
        return json.dumps(self.to_record(), ensure_ascii=False)


def predict(
    arguments: Sequence[str | Path],
    workspace: Workspace,
    model: Path | None = None,
    left_out: Counter[str] | None = None,
) -> Iterator[Prediction]:
    """Names what is on each file; one that cannot be read does not stop the others.

    Args:
        arguments: See :func:`graftline.inference.inputs.inputs`; one that is not there gets
            its reason here.
        workspace: Whose ``models/trained/`` is used, and whose ``data.max_image_px`` holds.
        model: Another model folder.
        left_out: Counts the files in folders that are no images, by the ending of their names.

    Yields:
        One prediction per file, in order.

    Raises:
        MissingOutputError: If there is no model.
        ParamsError: If ``params.yaml`` is not valid.
    """
    max_px = largest_px(workspace)
    with open_predictor(workspace, model) as predictor:
        files = expanded(arguments, left_out)
        while chunk := list(islice(files, _CHUNK_FILES)):
            yield from _predicted(predictor, chunk, max_px)


def open_predictor(workspace: Workspace, model: Path | None = None) -> Predictor:
    """The predictor of ``models/trained/``, or of another folder.

    Raises:
        MissingOutputError: If there is no model.
    """
    if model is None and not (workspace.trained / _RECORD).is_file():
        raise no_model("no model has been trained yet", workspace.trained)
    return Predictor(checked_model(model or workspace.trained))


def checked_model(folder: Path) -> Path:
    """The folder itself.

    Raises:
        MissingOutputError: If it holds no model.
    """
    if not (folder / _RECORD).is_file():
        raise no_model("there is no model here", folder)
    return folder


def no_model(what: str, folder: Path) -> MissingOutputError:
    """The error that a folder holds no model, and how one comes there."""
    return MissingOutputError(
        what,
        where=str(folder),
        allowed="a folder with model.tflite and trained.json, as models/trained is",
        fix="graftline run, or dvc repro",
    )


def expanded(
    arguments: Iterable[str | Path], left_out: Counter[str] | None = None
) -> Iterator[Input]:
    """What the arguments stand for; one that is not there, or cannot be listed, has its reason."""
    for argument in map(str, arguments):
        try:
            yield from inputs([argument], left_out)
        except DataError as error:
            yield Input(printable(argument), error=error.what)


def _predicted(predictor: Predictor, files: Sequence[Input], max_px: int) -> Iterator[Prediction]:
    reasons: dict[int, str] = {}

    def readable() -> Iterator[Pixels]:
        for place, row in enumerate(files):
            if row.file is None:
                reasons[place] = str(row.error)
                continue
            read = read_image(row.file, max_px, predictor.white, row.within)
            if read.pixels is None:
                reasons[place] = str(read.error)
            else:
                yield read.pixels

    rows = iter(predictor.probabilities(readable()))
    for place, row in enumerate(files):
        if place in reasons:
            yield Prediction(row.name, {}, reasons[place])
        else:
            yield Prediction.of(row.name, predictor.classes, next(rows))
