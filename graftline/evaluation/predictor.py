"""The one way from raw images to probabilities: shrink, then the exported model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graftline.compute import Arrays, map_chunks, resources_of
from graftline.compute.devices import resolved_device
from graftline.core.errors import DataError, MissingOutputError, TrainingDivergedError
from graftline.core.progress import progress
from graftline.core.records import Trained
from graftline.data.resize import shrink
from graftline.data.shards import PackedImages
from graftline.data.white_levels import rule_of
from graftline.evaluation.predictions import Predictions, further_columns, further_values
from graftline.network.opened_model import open_model
from graftline.network.runners.choosing import computing_of

# A softmax in float32 sums to 1 within some 1e-6; anything beyond this is no softmax.
_SUM_TOLERANCE = 1e-3
_CHUNK_IMAGES = 256
"""Enough that those of one shape among them are run together."""

if TYPE_CHECKING:
    import pandas as pd

_GROUP_IMAGES = 128
_HELD_BYTES = 64 << 20
_CHANNELS = (1, 3)
_LOGITS = 2
"""The place of the logits among the file's outputs."""


class Predictor:
    """Gives the exported model's probabilities for images of any size.

    Args:
        folder: ``models/trained/`` or a copy, with ``model.tflite`` and ``trained.json``.
        device: ``compute.device``. Cores answer a few images at once; a GPU takes seconds to begin,
            and is for thousands.

    Attributes:
        white: Tells what is white in an image of more than 8 bits, by the training images.
        drawings: Whether it was trained on grey drawings.

    Raises:
        MissingOutputError: If the model is not there.
        ParamsError: If a GPU is asked for and there is none.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        trained = Trained.read(folder / Trained.file_name())
        self.classes = trained.classes
        self.size_px = trained.size_px
        self.weight_digest = trained.weight_digest
        self.white = rule_of(trained.white)
        self.drawings = trained.drawings
        computing = computing_of(device, trained.precision)
        self._runner = open_model(folder, computing, trained.size_px)

    @property
    def feature_dim(self) -> int | None:
        """The number of pooled features that it gives; None if its file gives none."""
        dims = self._runner.output_dims
        return dims[1] if len(dims) > 1 else None

    def close(self) -> None:
        """Ends the runner's threads."""
        self._runner.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def probabilities(self, images: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """The probability of each class for each image, in the images' order.

        Images of one shape are run together. They are read as they are needed, and no more than
        64 MiB of them, shrunk, are held at once.

        Args:
            images: uint8, each (height, width) or (height, width, channels) with 1 or 3 channels.

        Returns:
            float32 (n, classes).

        Raises:
            DataError: If one of them is no such image.
        """
        (found,) = self._collected(
            images, lambda batch: [self._runner.run(batch)], [len(self.classes)]
        )
        return found

    def probabilities_and_features(
        self, images: Iterable[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both the probabilities and the pooled features that the head saw, in one pass.

        Args:
            images: See :meth:`probabilities`.

        Returns:
            float32 (n, classes), the same bits as those of :meth:`probabilities`, and float32
            (n, :attr:`feature_dim`).

        Raises:
            DataError: If one of them is no such image.
            ValueError: If the model gives no features.
        """
        if self.feature_dim is None:
            raise ValueError("this model gives probabilities only; see feature_dim")
        probabilities, features = self._collected(
            images,
            lambda batch: self._runner.run_outputs(batch, 2),
            [len(self.classes), self.feature_dim],
        )
        return probabilities, features

    def probabilities_and_logits(
        self, images: Iterable[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both the probabilities and what their losses are taken from, in one pass.

        Args:
            images: See :meth:`probabilities`.

        Returns:
            float32 (n, classes) twice: the same bits as those of :meth:`probabilities`, and the
            logits. Of a model that was exported before there were logits in its file, they are the
            logarithms of its probabilities, where one below 1.2e-38 counts as that.

        Raises:
            DataError: If one of them is no such image.
        """
        classes = len(self.classes)
        probabilities, logits = self._collected(
            images, self._probabilities_and_logits, [classes, classes]
        )
        return probabilities, logits

    def _probabilities_and_logits(self, batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        outputs = len(self._runner.output_dims)
        if outputs <= _LOGITS:
            probabilities = self._runner.run(batch)
            return [probabilities, np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))]
        given = self._runner.run_outputs(batch, outputs)
        return [given[0], given[_LOGITS]]

    def table(self, images: Iterable[NDArray[np.uint8]]) -> pd.DataFrame:
        """One row per image: ``label``, ``probability``, and :func:`further_columns`."""
        import pandas as pd

        probabilities = self.probabilities(images)
        best = probabilities.argmax(axis=1)
        columns: dict[str, Any] = {
            "label": [self.classes[index] for index in best],
            "probability": probabilities.max(axis=1, initial=0),
        }
        further = further_values(probabilities, self.classes)
        columns |= dict(zip(further_columns(self.classes), further, strict=True))
        return pd.DataFrame(columns)

    def _collected(
        self,
        images: Iterable[NDArray[np.uint8]],
        run: Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]],
        dims: Sequence[int],
    ) -> list[NDArray[np.float32]]:
        """What ``run`` gives for each image, in order: (n, dim) for each of ``dims``."""
        outputs: list[list[NDArray[np.float32]]] = [[] for _ in dims]
        for places, batch in self._batches(images):
            for rows, given in zip(outputs, run(batch), strict=True):
                rows.extend([np.empty(0, np.float32)] * (max(places) + 1 - len(rows)))
                for place, row in zip(places, given, strict=True):
                    rows[place] = row
        return [
            np.stack(rows) if rows else np.empty((0, dim), np.float32)
            for rows, dim in zip(outputs, dims, strict=True)
        ]

    def _batches(
        self, images: Iterable[NDArray[np.uint8]]
    ) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
        groups: dict[tuple[int, ...], list[tuple[int, NDArray[np.uint8]]]] = {}
        held_bytes = 0
        for place, given in enumerate(images):
            image = shrink(_checked(given, place), self.size_px)
            group = groups.setdefault(image.shape, [])
            group.append((place, image))
            held_bytes += image.nbytes
            if len(group) == _GROUP_IMAGES or held_bytes > _HELD_BYTES:
                # The fullest group frees the most.
                shape = max(groups, key=lambda key: sum(one.nbytes for _, one in groups[key]))
                held_bytes -= sum(one.nbytes for _, one in groups[shape])
                yield _stacked(groups.pop(shape))
        for group in groups.values():
            yield _stacked(group)


def _stacked(group: list[tuple[int, NDArray[np.uint8]]]) -> tuple[list[int], NDArray[np.uint8]]:
    return [place for place, _ in group], np.stack([image for _, image in group])


def _checked(image: Any, place: int) -> NDArray[np.uint8]:
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in _CHANNELS:
        raise DataError(
            f"image {place} is {array.dtype} of shape {np.shape(image)}",
            allowed="uint8, 0 to 255, of shape (height, width) or (height, width, channels) with "
            "1 or 3 channels",
        )
    if 0 in array.shape:
        raise DataError(f"image {place} is empty: its shape is {np.shape(image)}")
    return array


def split_predictions(
    folder: Path,
    trained: Trained,
    images: PackedImages,
    test: NDArray[np.int64],
    device: str = "cpu",
) -> Predictions:
    """What an exported model says of some images.

    Args:
        folder: The model's, as ``models/trained``.
        trained: What it says of itself.
        images: Raw images, as ``load`` wrote them.
        test: The positions of those that are asked about.
        device: ``compute.device``.

    Returns:
        The answers in the order of ``test``.

    Raises:
        MissingOutputError: If the model answers with another number of classes.
        TrainingDivergedError: If it answers with what are no probabilities.
    """
    # Here, and not by each worker for itself: a GPU's last digits are others.
    chosen = resolved_device(device)
    work = Answering(folder, images.folder, trained.size_px, chosen)
    found = Predictions.of_none(images.labels[test], len(trained.classes))
    odd: list[int] = []
    done = 0
    with progress("evaluate", len(test)) as bar, Predictor(folder, chosen) as predictor:
        here = partial(_answered, predictor, images, trained.size_px)
        chunks = (test[at : at + _CHUNK_IMAGES] for at in range(0, len(test), _CHUNK_IMAGES))
        needed = resources_of(chosen)
        for chunk, answered in map_chunks("answers", work, chunks, here=here, resources=needed):
            expected = (len(chunk), len(trained.classes))
            if (shape := tuple(answered["shape"].tolist())) != expected:
                raise MissingOutputError(
                    f"the model answers with shape {shape}, not {expected}",
                    where=str(folder),
                    fix="run dvc repro --force train, which exports it anew",
                )
            places = np.arange(done, done + len(chunk))
            odd += places[answered["odd"]].tolist()
            found.take_in(places, answered)
            done += len(chunk)
            bar.advance(len(chunk))
    if odd:
        raise TrainingDivergedError(
            f"the exported model answers {len(odd)} of {len(test)} test images with what are no "
            f"probabilities, the first of them {images.names[test[min(odd)]]}",
            where=str(folder),
            allowed="numbers from 0 to 1 whose sum over the classes is 1",
            fix="lower train.learning_rate and run dvc repro",
        )
    return found


@dataclass(frozen=True)
class Answering:
    """Asks an exported model about packed images by their positions, in whichever process.

    Args:
        model: The model's folder.
        images: The images' folder.
        size_px: What the model takes at most.
        device: cpu or gpu.
    """

    model: Path
    images: Path
    size_px: int
    device: str

    @contextmanager
    def opened(self) -> Iterator[Callable[[NDArray[np.int64]], Arrays]]:
        """Gives the function from positions to what is kept of the answers."""
        with Predictor(self.model, self.device) as predictor:
            yield partial(_answered, predictor, PackedImages.open(self.images), self.size_px)


def _answered(
    predictor: Predictor, images: PackedImages, size_px: int, positions: NDArray[np.int64]
) -> Arrays:
    """What is kept of the answers, which of them are odd, and the shape that all of them had."""
    given = (shrink(images.image(position), size_px) for position in positions.tolist())
    probabilities, logits = predictor.probabilities_and_logits(given)
    shape = {"shape": np.array(probabilities.shape)}
    if len(probabilities) != len(positions):
        return shape
    odd = ~np.isclose(probabilities.sum(axis=1), 1, rtol=0, atol=_SUM_TOLERANCE)
    return {
        "odd": odd,
        **shape,
        **Predictions.told(images.labels[positions], probabilities, logits),
    }
