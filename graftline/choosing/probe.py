"""The probe: a classifier on frozen features that ranks depths as a trained head would.

Ridge regression on the standardized features and on random rectified mixtures of them (Rahimi and
Recht, NeurIPS 2008). The mixtures do for narrow layers what a hidden layer of the head does, and
there are no steps, no rate and no epochs. What else was tried, and how well each ranked depths,
stands in ``docs/freezing.md``.
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
    units = hidden_units(features, seed)
    targets = np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]
    whole = _moments(units, targets) if most == 1.0 else None
    answers = np.empty((len(PENALTIES), len(labels)), np.int64)
    losses = np.zeros(len(PENALTIES))
    for fold in np.unique(folds):
        held_out = folds == fold
        train = np.flatnonzero(~held_out)
        train = train[: max(1, round(most * len(train)))]
        if len(train) <= units.shape[1]:
            scores = _by_images(units[train], targets[train], units[held_out])
        else:
            # Taking the held-out images away is a fifth of the work of adding all others up.
            moments = (
                _moments(units[train], targets[train])
                if whole is None
                else whole.without(_moments(units[held_out], targets[held_out]))
            )
            scores = _by_units(moments, units[held_out])  # (penalties, m, classes)
        answers[:, held_out] = scores.argmax(axis=2)
        losses += ((scores - targets[held_out]) ** 2).sum(axis=(1, 2))
    # One penalty for all folds, by the squared error: one degree of freedom for n images.
    chosen: NDArray[np.int64] = answers[int(losses.argmin())]
    return chosen


def hidden_units(features: NDArray[np.floating], seed: int) -> NDArray[np.float32]:
    """Standardized features beside random rectified mixtures of them, (n, c + ``UNITS``)."""
    values = np.asarray(features, np.float32)
    variance = values.var(axis=0)
    scale = np.sqrt(np.maximum(variance, _FLOOR * variance.mean()) + 1e-12)
    values = (values - values.mean(axis=0)) / scale
    random = np.random.default_rng((seed, 2))
    mixing = random.standard_normal((values.shape[1], UNITS), dtype=np.float32)
    mixed = np.maximum(values @ (mixing / np.float32(np.sqrt(values.shape[1]))), 0)
    return np.concatenate([values, mixed - mixed.mean(axis=0)], axis=1)


@dataclass(frozen=True)
class _Moments:
    """Sums over images: what ridge regression needs of them."""

    count: int
    units: NDArray[np.float32]
    targets: NDArray[np.float32]
    products: NDArray[np.float32]
    crossed: NDArray[np.float32]

    def without(self, other: _Moments) -> _Moments:
        return _Moments(
            self.count - other.count,
            self.units - other.units,
            self.targets - other.targets,
            self.products - other.products,
            self.crossed - other.crossed,
        )


def _moments(units: NDArray[np.float32], targets: NDArray[np.float32]) -> _Moments:
    return _Moments(
        len(units), units.sum(axis=0), targets.sum(axis=0), units.T @ units, units.T @ targets
    )


def _by_units(moments: _Moments, held_out: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores of held-out images for each penalty, from one equation per unit."""
    count = np.float32(moments.count)
    centre, mean = moments.units / count, moments.targets / count
    gram = moments.products - centre[:, None] * moments.units
    crossed = moments.crossed - centre[:, None] * moments.targets
    return np.stack(
        [(held_out - centre) @ weights + mean for weights in _ridge(gram, crossed, np.trace(gram))]
    )


def _by_images(
    train: NDArray[np.float32], targets: NDArray[np.float32], held_out: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The same from one equation per image, which is less where images are few."""
    centre, mean = train.mean(axis=0), targets.mean(axis=0)
    train = train - centre
    gram = train @ train.T
    trace = np.trace(gram) * (len(train) / train.shape[1])
    across = (held_out - centre) @ train.T
    return np.stack([across @ dual + mean for dual in _ridge(gram, targets - mean, trace)])


def _ridge(
    gram: NDArray[np.float32], right: NDArray[np.float32], trace: float
) -> list[NDArray[np.float32]]:
    """Solutions of the damped equations for each penalty."""
    from scipy.linalg import cho_factor, cho_solve

    scale = max(float(trace) / len(gram), 1e-6)
    found = []
    for penalty in PENALTIES:
        damped = gram + np.float32(penalty * scale) * np.eye(len(gram), dtype=np.float32)
        found.append(cho_solve(cho_factor(damped), right))
    return found
