"""The depth profile: how well frozen features at each depth tell the classes apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from graftline.compute.cores import available_cores
from graftline.core.records import Record
from graftline.evaluation.paired import SAME_COST, p_worse, paired_error, standard_error
from graftline.selection.depths import Cuts, Depth
from graftline.selection.probe import out_of_fold
from graftline.training.checkpoints import keep_arrays, kept_arrays

Item = TypeVar("Item")
CURVE_SHARES = (0.125, 0.25, 0.5, 1.0)
"""Of each fold's training images: every point has twice as many as the one before."""


class DepthScore(Record):
    """The probe at one depth."""

    layer: str
    block: str
    features: int
    side_px: int
    multiply_adds: int
    """Of one image from the input up to and with this layer."""
    right: int
    accuracy: float
    """Share of the images named right by a probe that was fitted without them."""
    standard_error: float
    behind: float
    """How far the accuracy lies below the best depth's."""
    behind_error: float
    """The standard error of that, from the answers to the same images."""
    p_value: float
    """That it is no worse than the best depth."""


class CurvePoint(Record):
    """The best depth's probe with part of the training images, measured on all images."""

    training_images: int
    """Of each fold."""
    right: int
    accuracy: float
    standard_error: float


@dataclass(frozen=True)
class Profile:
    """A depth profile with the answers behind it.

    Args:
        scores: From early to last.
        curve: From few to all training images.
        answers: Out-of-fold answers at each depth, (depths, n).
        curve_answers: Likewise for each point of the curve.
    """

    scores: tuple[DepthScore, ...]
    curve: tuple[CurvePoint, ...]
    answers: NDArray[np.int64]
    curve_answers: NDArray[np.int64]

    @property
    def best(self) -> DepthScore:
        """The depth with the most right answers; of several, the cheapest."""
        return min(self.scores, key=lambda score: (-score.right, score.multiply_adds))

    @property
    def cheapest(self) -> DepthScore:
        """The cheapest depth within one standard error of the best, on the same images.

        Of depths that cost about the same, the one with the most right answers.
        """
        as_cheap = [score for score in self._near if score.multiply_adds <= self._most]
        return min(as_cheap, key=lambda score: (-score.right, score.multiply_adds))

    @property
    def as_cheap_tuned(self) -> DepthScore:
        """The latest depth that costs about as much as the cheapest: where what is tuned is cut.

        The probe tells what a depth is worth while it is frozen. Layers that were made for other
        images cost accuracy then, but when they train they are only more to train: cut two blocks
        later, tuned networks were better on photographs and as good on digits
        (docs/measurements/freezing.md).
        """
        return [score for score in self.scores if score.multiply_adds <= self._most][-1]

    @property
    def cuts(self) -> Cuts:
        """Where candidates are cut."""
        tuned = self.as_cheap_tuned
        return Cuts(
            frozen=self.cheapest.layer,
            tuned=tuned.layer,
            later=max(self._near[-1], tuned, key=self.scores.index).layer,
            best=self.best.layer,
        )

    @property
    def last(self) -> DepthScore:
        """The backbone's last layer."""
        return self.scores[-1]

    @property
    def _near(self) -> list[DepthScore]:
        near = [score for score in self.scores if score.behind <= score.behind_error]
        return near or [self.best]

    @property
    def _most(self) -> float:
        """Multiply-adds that count as few as those of the cheapest of the near depths."""
        return SAME_COST * min(score.multiply_adds for score in self._near)


def make_profile(
    depths: Sequence[Depth],
    features: Sequence[NDArray[np.floating]],
    labels: NDArray[np.integer],
    folds: NDArray[np.int64],
    seed: int,
    kept: Path | None = None,
) -> Profile:
    """Probes each depth, and the best one on fewer images.

    Args:
        depths: From early to last.
        features: At each depth, (n, c), in stratified order.
        labels: (n,).
        folds: (n,).
        seed: Of the probes.
        kept: A file for the answers, which are read there if it has been written.
    """
    known = kept_arrays(kept) if kept else None
    if known is None:
        known = _answers(features, labels, folds, seed)
        if kept:
            keep_arrays(kept, known)
    answers, curve_answers = known["answers"], known["curve_answers"]
    right = answers == labels
    best = int(right.sum(axis=1).argmax())
    scores = tuple(_score(depth, right[at], right[best]) for at, depth in enumerate(depths))
    trained = len(labels) * (1 - 1 / len(np.unique(folds)))
    curve = tuple(
        _point(round(share * trained), curve_answers[at] == labels)
        for at, share in enumerate(CURVE_SHARES)
    )
    return Profile(scores, curve, answers, curve_answers)


def at_each(items: Sequence[Item], function: Callable[[Item], Any]) -> NDArray[Any]:
    """Values of a function, side by side on all cores, each on one thread.

    A solver's own threads wait for each other in a loop, which on cores that do other work too
    costs more than they save. One thread also gives the same digits on every machine of one kind,
    however many cores it has.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), ThreadPoolExecutor(available_cores()) as pool:
        return np.stack([np.asarray(value) for value in pool.map(function, items)])


def _answers(
    features: Sequence[NDArray[np.floating]],
    labels: NDArray[np.integer],
    folds: NDArray[np.int64],
    seed: int,
) -> dict[str, NDArray[np.int64]]:
    answers = at_each(features, lambda one: out_of_fold(one, labels, folds, seed))
    best = int((answers == labels).sum(axis=1).argmax())
    curve_answers = at_each(
        CURVE_SHARES, lambda share: out_of_fold(features[best], labels, folds, seed, share)
    )
    return {"answers": answers, "curve_answers": curve_answers}


def _score(depth: Depth, right: NDArray[np.bool_], best: NDArray[np.bool_]) -> DepthScore:
    return DepthScore(
        **depth.model_dump(),
        right=int(right.sum()),
        accuracy=float(right.mean()),
        standard_error=standard_error(right),
        behind=float(best.mean() - right.mean()),
        behind_error=paired_error(best, right),
        p_value=p_worse(right, best),
    )


def _point(images: int, right: NDArray[np.bool_]) -> CurvePoint:
    return CurvePoint(
        training_images=images,
        right=int(right.sum()),
        accuracy=float(right.mean()),
        standard_error=standard_error(right),
    )
