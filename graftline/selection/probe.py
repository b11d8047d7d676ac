"""The probe: a classifier on frozen features that ranks depths as a trained head would.

Ridge regression on the standardized features and on random rectified mixtures of them (Rahimi and
Recht, NeurIPS 2008). The mixtures do for narrow layers what a hidden layer of the head does, and
there are no steps, no rate and no epochs. What else was tried, and how well each ranked depths,
stands in ``docs/measurements/freezing.md``.

What an image is answered with comes from the training images of its fold alone: the moments that
features are standardized by, those of the mixtures, the penalty, and the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNITS = 512
PENALTIES = (0.003, 0.02, 0.1, 0.5)
"""Of the ridge regression, relative to the units' mean variance."""
_FLOOR = 1e-3
"""Of the mean variance, as in the head's standardization: what hardly moves is not blown up."""
_TRIED_SHARE = 0.2
"""Of the training images: the penalty is the one that answers these best, fitted to the others."""


def out_of_fold(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    folds: NDArray[np.int64],
    seed: int,
    most: float = 1.0,
) -> NDArray[np.int64]:
    """The probe's answer to each image, from images of other folds alone.

    Args:
        features: Pooled, (n, c), in stratified order.
        labels: (n,), each an index of a class.
        folds: (n,): the fold of each image.
        seed: Of the random units.
        most: The share of each fold's training images that is used, from the beginning.

    Returns:
        The class given to each image, (n,).
    """
    known = np.unique(labels)
    if 2 * len(known) < known[-1]:
        # Of many classes only some were drawn: no column for each of the others.
        codes = np.searchsorted(known, labels)
        return known[out_of_fold(features, codes, folds, seed, most)].astype(np.int64)
    values = np.asarray(features, np.float32)
    targets = np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]
    answers = np.empty(len(labels), np.int64)
    for fold in np.unique(folds):
        held_out = folds == fold
        train = np.flatnonzero(~held_out)
        train = train[: max(1, round(most * len(train)))]
        units = HiddenUnits(values[train], seed)
        scores = _scores(units.of(values[train]), targets[train], units.of(values[held_out]))
        answers[held_out] = scores.argmax(axis=1)
    return answers


class HiddenUnits:
    """Standardized features beside random rectified mixtures of them.

    Args:
        train: Features (n, c) that mean and variance are taken from, float32.
        seed: Of the mixtures.
    """

    def __init__(self, train: NDArray[np.float32], seed: int) -> None:
        variance = train.var(axis=0)
        self._mean = train.mean(axis=0)
        self._scale = np.sqrt(np.maximum(variance, _FLOOR * variance.mean()) + 1e-12)
        width = train.shape[1]
        random = np.random.default_rng((seed, 2))
        mixing = random.standard_normal((width, UNITS), dtype=np.float32)
        self._mixing = mixing / np.float32(np.sqrt(width))

    def of(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Units of some images, (m, c + ``UNITS``); the regression takes their means away."""
        values = (features - self._mean) / self._scale
        units: NDArray[np.float32] = np.concatenate(
            [values, np.maximum(values @ self._mixing, 0)], axis=1
        )
        return units


def _scores(
    train: NDArray[np.float32], targets: NDArray[np.float32], held_out: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Scores of held-out images (m, classes), with the penalty that the training images ask for."""
    kept = len(train) - round(_TRIED_SHARE * len(train))
    if len(train) <= train.shape[1]:
        fitted = _by_images(train[:kept], targets[:kept], train[kept:])
        penalty = _best(fitted, targets[kept:])
        return _by_images(train, targets, held_out, (penalty,)).squeeze(0)
    # The sums over all are those over both parts, so that trying costs no further products.
    first, rest = _moments(train[:kept], targets[:kept]), _moments(train[kept:], targets[kept:])
    penalty = _best(_by_units(first, train[kept:]), targets[kept:])
    return _by_units(first.joined(rest), held_out, (penalty,)).squeeze(0)


def _best(scores: NDArray[np.float32], targets: NDArray[np.float32]) -> float:
    """The penalty with the lowest squared error; the strongest of several, as without images."""
    errors = ((scores - targets) ** 2).sum(axis=(1, 2))  # (penalties,)
    return PENALTIES[len(PENALTIES) - 1 - int(errors[::-1].argmin())]


@dataclass(frozen=True)
class _Moments:
    """Sums over images: what ridge regression needs of them."""

    count: int
    units: NDArray[np.float32]
    targets: NDArray[np.float32]
    products: NDArray[np.float32]
    crossed: NDArray[np.float32]

    def joined(self, other: _Moments) -> _Moments:
        return _Moments(
            self.count + other.count,
            self.units + other.units,
            self.targets + other.targets,
            self.products + other.products,
            self.crossed + other.crossed,
        )


def _moments(units: NDArray[np.float32], targets: NDArray[np.float32]) -> _Moments:
    return _Moments(
        len(units), units.sum(axis=0), targets.sum(axis=0), units.T @ units, units.T @ targets
    )


def _by_units(
    moments: _Moments, held_out: NDArray[np.float32], penalties: tuple[float, ...] = PENALTIES
) -> NDArray[np.float32]:
    """Scores of held-out images for each penalty, from one equation per unit."""
    count = np.float32(moments.count)
    centre, mean = moments.units / count, moments.targets / count
    gram = moments.products - centre[:, None] * moments.units
    crossed = moments.crossed - centre[:, None] * moments.targets
    found = _ridge(gram, crossed, np.trace(gram), penalties)
    return np.stack([(held_out - centre) @ weights + mean for weights in found])


def _by_images(
    train: NDArray[np.float32],
    targets: NDArray[np.float32],
    held_out: NDArray[np.float32],
    penalties: tuple[float, ...] = PENALTIES,
) -> NDArray[np.float32]:
    """The same from one equation per image, which is less where images are few."""
    centre, mean = train.mean(axis=0), targets.mean(axis=0)
    train = train - centre
    gram = train @ train.T
    trace = np.trace(gram) * (len(train) / train.shape[1])
    across = (held_out - centre) @ train.T
    found = _ridge(gram, targets - mean, trace, penalties)
    return np.stack([across @ dual + mean for dual in found])


def _ridge(
    gram: NDArray[np.float32],
    right: NDArray[np.float32],
    trace: float,
    penalties: tuple[float, ...],
) -> list[NDArray[np.float32]]:
    """Solutions of the damped equations for each penalty."""
    from scipy.linalg import cho_factor, cho_solve

    scale = max(float(trace) / len(gram), 1e-6)
    found = []
    for penalty in penalties:
        damped = gram + np.float32(penalty * scale) * np.eye(len(gram), dtype=np.float32)
        found.append(cho_solve(cho_factor(damped), right))
    return found
