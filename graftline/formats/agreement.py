"""Holds an exported model against the original, image by image, and measures its speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graftline.core.progress import progress
from graftline.data.shards import PackedImages
from graftline.formats.runners import OpenModel

_BATCH = 64
_MOST_CLASSES_TOLD = 5

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class FormatAnswers:
    """What a model says of each test image, and how fast.

    Args:
        predicted: Indices of the most probable classes, shape (images,).
        images_per_second: Without reading the images, and without the first batch's warming up.
        load_s: Opening the file and answering one image, in seconds.
        answered_by: Which runtime, on what.
    """

    predicted: NDArray[np.int64]
    images_per_second: float
    load_s: float
    answered_by: str


@dataclass(frozen=True)
class Agreement:
    """An exported model beside the original, on the same images.

    Args:
        labels: What each image is, shape (images,).
        original: What the original takes it for.
        exported: What the exported model takes it for.
        classes: Names, in the labels' order.
    """

    labels: Labels
    original: Labels
    exported: Labels
    classes: Sequence[str]

    @property
    def accuracy(self) -> float:
        """Share of the images that the exported model names right."""
        return float((self.exported == self.labels).mean())

    @property
    def agreement(self) -> float:
        """Share of the images that get the same label from both."""
        return float((self.exported == self.original).mean())

    @property
    def other_answers(self) -> dict[str, int]:
        """Images of each class whose label differs, by the class's name, the most first."""
        differing = np.bincount(
            self.labels[self.exported != self.original], minlength=len(self.classes)
        )
        order = np.argsort(-differing, kind="stable")
        return {self.classes[at]: int(differing[at]) for at in order if differing[at]}

    @property
    def lost(self) -> NDArray[np.int64]:
        """Images of each class that the original names right less those that this one does."""
        size = len(self.classes)
        right = np.bincount(self.labels[self.original == self.labels], minlength=size)
        left = np.bincount(self.labels[self.exported == self.labels], minlength=size)
        lost: NDArray[np.int64] = right - left
        return lost

    @property
    def drops(self) -> NDArray[np.float64]:
        """By how much each class's recall falls; negative where it rises, 0 without images."""
        drops: NDArray[np.float64] = self.lost / np.maximum(self.support, 1)
        return drops

    @property
    def support(self) -> NDArray[np.int64]:
        """Images of each class."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @property
    def largest_drop(self) -> tuple[float, str | None]:
        """The largest fall of a class's recall and that class's name; 0 and None if none falls."""
        at = int(self.drops.argmax())
        drop = float(self.drops[at])
        return (drop, self.classes[at]) if drop > 0 else (0.0, None)

    def objections(self, least_agreement: float, most_drop: float) -> list[str]:
        """What is too far from the original, in a sentence each, with the classes it is about.

        One image may always differ: of few it is a large share, and chance enough.
        """
        found = []
        if self.agreement < least_agreement and sum(self.other_answers.values()) > 1:
            found.append(
                f"{self.agreement:.2%} of {len(self.labels):,} test images get the same label, "
                f"and {least_agreement:.2%} are asked for; {self._told_answers()}"
            )
        fallen = np.flatnonzero((self.drops > most_drop) & (self.lost > 1))
        if len(fallen):
            worst = fallen[np.argsort(-self.drops[fallen], kind="stable")]
            told = ", ".join(
                f"{self.classes[at]} by {self.drops[at]:.2%} ({self.lost[at]} of "
                f"{self.support[at]} images)"
                for at in worst[:_MOST_CLASSES_TOLD]
            )
            found.append(
                f"recall falls by more than {most_drop:.2%}: {told}"
                + _and_more(len(worst) - _MOST_CLASSES_TOLD)
            )
        return found

    def _told_answers(self) -> str:
        counts = dict(zip(self.classes, self.support.tolist(), strict=True))
        told = [
            f"{name} ({number} of {counts[name]}, mostly named {self._mostly(name)})"
            for name, number in list(self.other_answers.items())[:_MOST_CLASSES_TOLD]
        ]
        left = len(self.other_answers) - _MOST_CLASSES_TOLD
        return f"it differs on images of {', '.join(told)}{_and_more(left)}"

    def _mostly(self, name: str) -> str:
        here = (self.labels == list(self.classes).index(name)) & (self.exported != self.original)
        return self.classes[int(np.bincount(self.exported[here]).argmax())]


def answers(
    open_runner: Callable[[], OpenModel], images: PackedImages, test: NDArray[np.int64], name: str
) -> FormatAnswers:
    """Opens a model and runs it over the whole test split.

    Args:
        open_runner: Opens it.
        images: The preprocessed images.
        test: The test split's positions among them.
        name: Of the model, for the progress bar.
    """
    started_s = time.perf_counter()
    runner = open_runner()
    try:
        runner.run(images.batch(test[:1]))
        load_s = time.perf_counter() - started_s
        predicted = np.empty(len(test), np.int64)
        run_s, warm = 0.0, False
        with progress(f"score {name}", len(test)) as bar:
            for positions, batch in images.batches(test, _BATCH):
                if not warm:
                    runner.run(batch)
                    warm = True
                started_s = time.perf_counter()
                probabilities = runner.run(batch)
                run_s += time.perf_counter() - started_s
                predicted[positions] = probabilities.argmax(axis=1)
                bar.advance(len(batch))
        return FormatAnswers(predicted, len(test) / run_s, load_s, runner.title)
    finally:
        runner.close()


def _and_more(count: int) -> str:
    return f", and {count} more" if count > 0 else ""
