"""The tasks on which choosing by measurement is held against the exhaustive sweep.

Each is made from MNIST's four files or from flowers12; the test images are those of the official
split, or of the given one. Where these are few, a task is repeated with other seeds, and where few
images are trained on, those of the training split that no repeat trains on are tested on too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.params import Params, params_from_record

FLOWERS = Path("../shared/data/flowers12")
IMAGENET = Path("../shared/weights/mobilenet_v2_1.0_imagenet_notop.weights.h5")
IMAGENET_SHA256 = "0c307d1bb5e7222e0fd2cfe2ad6c38bb67e183d4b6f60f69f5a1b6f66272f73e"
TEST_DIGITS = 5000
"""Of MNIST's 10 000 test images: half the time to evaluate, 1.4 times the interval."""

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]
Make = Callable[[int], tuple[Arrays, Arrays]]
"""Gives training images with labels, and test images with labels, of a repeat (from 0)."""


@dataclass(frozen=True)
class Task:
    """One data set and what it is trained with.

    Args:
        name: Its name.
        make: Gives its images.
        size_px: Of the network's input.
        weights: Base weights.
        epochs: Of fine-tuning, about 100 steps or more.
        head_epochs: Of the head before it, about 600 steps or more.
        repeats: How often all is done, with another seed and so another validation split.
        own_test: Whether each repeat tests on images of its own, instead of all on the same.
    """

    name: str
    make: Make
    size_px: int
    weights: str
    epochs: int
    head_epochs: int = 10
    repeats: int = 1
    own_test: bool = False

    def folder(self, repeat: int) -> str:
        """The name of a repeat's folder; the first has the task's own."""
        return self.name if repeat == 0 else f"{self.name}.{repeat + 1}"

    def params(self, source: Path, repeat: int = 0) -> Params:
        """The parameters of the sweep's trainings, and of the choice."""
        weights: dict[str, Any] = {"weights": self.weights}
        if self.weights.endswith(".h5"):
            weights["weights_sha256"] = IMAGENET_SHA256
        return params_from_record(
            {
                "seed": repeat,
                "data": {"source": "npz", "path": str(source)},
                "preprocess": {"size_px": self.size_px},
                "backbone": weights,
                "freeze": {"strategy": "auto"},
                "train": {"epochs": self.head_epochs},
                "tune": {"epochs": self.epochs},
            },
            self.name,
        )


def digits(count: int, change: Callable[[Arrays], Arrays] = lambda arrays: arrays) -> Make:
    """MNIST with so many training images, each class in its share, changed or not."""

    def make(repeat: int) -> tuple[Arrays, Arrays]:
        del repeat  # The images stay; what the seed decides does not.
        train, test = _mnist("train"), _mnist("t10k")
        test = (test[0][:TEST_DIGITS], test[1][:TEST_DIGITS])
        return change(_some(train, count)), change(test)

    return make


def flowers() -> Make:
    """The twelve flowers, 60 of each to train on and 20 to test: in four repeats each once.

    The first repeat has the split as it is given; each other tests on another third of what that
    trains on, and trains on the rest, less the one photograph that is there twice.
    """

    def make(repeat: int) -> tuple[Arrays, Arrays]:
        train, test = (_photographs(FLOWERS / split) for split in ("train", "test"))
        if repeat == 0:
            return train, test
        thirds = np.split(_in_shares(train[1]), 3)
        tested = thirds.pop(repeat - 1)
        seen = {image.tobytes() for image in train[0][tested]}
        rest = [one for one in np.concatenate(thirds) if train[0][one].tobytes() not in seen]
        images = np.concatenate([train[0][rest], test[0]])
        labels = np.concatenate([train[1][rest], test[1]])
        return (images, labels), (train[0][tested], train[1][tested])

    return make


def few_flowers(per_class: int, draws: int = 1, *, grey: bool = False) -> Make:
    """So few of each flower, others in each draw, and all that no draw takes to test on.

    The one photograph that is there twice is not tested on where a draw takes its copy.

    Args:
        per_class: Photographs of each flower to train on.
        draws: After so many repeats the first photographs come again, with another seed.
        grey: Whether they lose their colours.
    """

    def make(repeat: int) -> tuple[Arrays, Arrays]:
        train, test = (_photographs(FLOWERS / split, grey=grey) for split in ("train", "test"))
        share = 12 * per_class
        taken, left = np.split(_in_shares(train[1]), [draws * share])
        mine = np.split(taken, draws)[repeat % draws]
        seen = {image.tobytes() for image in train[0][taken]}
        images = np.concatenate([train[0][left], test[0]])
        labels = np.concatenate([train[1][left], test[1]])
        tested = [one for one, image in enumerate(images) if image.tobytes() not in seen]
        return (train[0][mine], train[1][mine]), (images[tested], labels[tested])

    return make


def inverted(arrays: Arrays) -> Arrays:
    """Black on white."""
    return 255 - arrays[0], arrays[1]


def turned(arrays: Arrays) -> Arrays:
    """Each digit turned by up to 60 degrees to either side."""
    from PIL import Image

    images, labels = arrays
    degrees = np.random.default_rng(len(labels)).uniform(-60, 60, len(labels))
    pairs = zip(images, degrees, strict=True)
    found = [Image.fromarray(one).rotate(by, Image.Resampling.BILINEAR) for one, by in pairs]
    return np.stack([np.asarray(one) for one in found]), labels


def coloured(arrays: Arrays) -> Arrays:
    """Each digit in a colour, on ground of another, that say nothing about it."""
    images, labels = arrays
    chance = np.random.default_rng(len(labels))
    ink, ground = chance.integers(0, 256, (2, len(labels), 1, 1, 3))
    share = images[..., None] / 255
    return np.rint(share * ink + (1 - share) * ground).astype(np.uint8), labels


TASKS = {
    task.name: task
    for task in (
        Task("digits-500", digits(500), 64, "stanford-dogs", 8, 40),
        Task("digits-1000", digits(1000), 64, "stanford-dogs", 8, 20),
        Task("digits-5000", digits(5000), 64, "stanford-dogs", 4),
        Task("flowers-10", few_flowers(10, 3), 96, str(IMAGENET), 30, 150, repeats=3),
        Task("flowers-60", flowers(), 96, str(IMAGENET), 6, 30, repeats=4, own_test=True),
        Task("digits-inverted-1000", digits(1000, inverted), 64, "stanford-dogs", 8, 20),
        Task("digits-coloured-1000", digits(1000, coloured), 64, "stanford-dogs", 8, 20),
        Task("flowers-grey-30", few_flowers(30, grey=True), 96, str(IMAGENET), 8, 50, repeats=2),
        Task("digits-turned-2000", digits(2000, turned), 64, "stanford-dogs", 6, 12),
        Task("flowers-20", few_flowers(20, 2), 96, str(IMAGENET), 12, 75, repeats=2),
        Task("digits-60000", digits(60_000), 32, "stanford-dogs", 2),
    )
}


def _mnist(part: str) -> Arrays:
    # What `make mnist` leaves there is checked by its SHA-256; behind the headers lie plain bytes.
    folder = Path("var/mnist")
    images = np.fromfile(folder / f"{part}-images-idx3-ubyte", np.uint8, offset=16)
    labels = np.fromfile(folder / f"{part}-labels-idx1-ubyte", np.uint8, offset=8)
    return images.reshape(-1, 28, 28), labels.astype(np.int64)


def _photographs(folder: Path, *, grey: bool = False) -> Arrays:
    from PIL import Image

    images, labels = [], []
    for label, of_class in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        for path in sorted(of_class.glob("*.jpg")):
            with Image.open(path) as image:
                images.append(np.asarray(image.convert("L" if grey else "RGB")))
            labels.append(label)
    return np.stack(images), np.array(labels, np.int64)


def _some(arrays: Arrays, count: int) -> Arrays:
    """The first so many in a random order in which the classes keep their shares."""
    images, labels = arrays
    chosen = _in_shares(labels)[:count]
    return images[chosen], labels[chosen]


def _in_shares(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """A random order in which the classes keep their shares from the first image on."""
    shuffled = np.random.default_rng(0).permutation(len(labels))
    places = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels[shuffled] == label)
        places[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(places, kind="stable")]
