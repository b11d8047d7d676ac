"""A model's features of its own training images: the reference that travels with it.

New images are compared with this sample to see whether they still resemble those that the model
was trained on (``graftline.drift``). It is taken through the exported file, so that features of a
batch and of the reference come about in the same way, also where the backbone was tuned.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.checksums import verify
from graftline.core.errors import MissingOutputError
from graftline.core.records import Split
from graftline.data.shards import PackedImages
from graftline.evaluation.predictions import MOST_WHOLE
from graftline.network.runners.runner import Runner

REFERENCE_FILE = "feature_reference.npz"
_MOST_IMAGES = 1000
_BATCH = 256


@dataclass(frozen=True)
class FeatureSample:
    """What a model made of some images.

    Args:
        features: Pooled features at the cut, float32 (n, c).
        labels: Indices of the most probable classes, (n,).
        confidence: Their probabilities, (n,).
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    confidence: NDArray[np.float32]

    @classmethod
    def of(cls, features: NDArray[np.float32], probabilities: NDArray[np.float32]) -> FeatureSample:
        """From the probabilities of all classes, (n, classes)."""
        return cls(features, probabilities.argmax(axis=1), probabilities.max(axis=1, initial=0))

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class FeatureReference:
    """A sample of the training split, and one of the validation split to hold it against."""

    train: FeatureSample
    validation: FeatureSample


def write_reference(images: PackedImages, runner: Runner, seed: int, path: Path) -> None:
    """Runs a model over at most 1 000 images of each split, chosen by ``seed``.

    Args:
        images: The preprocessed images.
        runner: The exported model, with probabilities and features as outputs.
        seed: Of the choice.
        path: Where the samples go; the same inputs give the same bytes.
    """
    arrays: dict[str, Any] = {}
    splits: Sequence[Split] = ("train", "validation")
    for split in splits:
        sample = _sample(runner, images, chosen(images.indices(split), _MOST_IMAGES, seed))
        arrays |= {f"{split}_{name}": values for name, values in sample.items()}
    np.savez_compressed(path, **arrays)


def read_reference(folder: Path) -> FeatureReference | None:
    """The reference in a model's folder; None for a model that has none.

    Raises:
        MissingOutputError: If the file is damaged.
    """
    path = folder / REFERENCE_FILE
    verify(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            train, validation = (_stored(stored, split) for split in ("train", "validation"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise MissingOutputError(
            f"{path} is no reference of features: {error}",
            where=str(path),
            fix="fetch the model again (remove its folder under var/models), or run dvc repro",
        ) from error
    return FeatureReference(train, validation)


def chosen(indices: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """At most ``most`` of the indices, by chance, in their own order."""
    if len(indices) <= most:
        return indices
    places = np.random.default_rng(seed).choice(len(indices), most, replace=False, shuffle=False)
    return indices[np.sort(places)]


def _stored(arrays: Mapping[str, NDArray[Any]], split: str) -> FeatureSample:
    features = arrays[f"{split}_features"]
    if f"{split}_probabilities" in arrays:
        return FeatureSample.of(features, arrays[f"{split}_probabilities"])
    return FeatureSample(features, arrays[f"{split}_labels"], arrays[f"{split}_confidence"])


def _sample(
    runner: Runner, images: PackedImages, indices: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """Features, and probabilities; of many classes the label and its probability alone."""
    classes, dim = runner.output_dims[:2]
    count, whole = len(indices), classes <= MOST_WHOLE
    features = np.empty((count, dim), np.float32)
    found = np.empty((count, classes if whole else 0), np.float32)
    labels, confidence = np.empty(count, np.int64), np.empty(count, np.float32)
    for positions, batch in images.batches(indices, _BATCH):
        probabilities, features[positions] = runner.run_outputs(batch, 2)
        if whole:
            found[positions] = probabilities
        else:
            labels[positions] = probabilities.argmax(axis=1)
            confidence[positions] = probabilities.max(axis=1)
    if whole:
        return {"features": features, "probabilities": found}
    return {"features": features, "labels": labels, "confidence": confidence}
