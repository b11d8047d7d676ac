"""Losses at the temperature that suits them best: how good answers are, not how boldly given.

A network that was trained with label smoothing or MixUp is too modest, one that knows its few
training images by heart too bold, and a cross-entropy counts that like wrong answers. One
temperature over all logits mends either and changes no answer (Guo et al., ICML 2017). Comparisons
of networks compare what is left, and what is exported has been divided by it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from graftline.training.losses import cross_entropies, log_probabilities

_LOG_RANGE = (-10.0, 3.0)
"""Of the temperature, in terms of the spread of the logits: above it all classes come out alike."""
_WHOLE_LOGITS = 1 << 22
"""More are gone through in blocks, since all of them in doubles would take too much memory."""
_BLOCK_LOGITS = 1 << 20
_UNKNOWN_IMAGES = 0.25
"""Images more of which every class is as likely: n right answers of n would else ask for a
temperature of zero. With a whole one, networks that were right before came out too modest
(docs/finetuning.md)."""


class Tempered(NamedTuple):
    """The best temperature, and the cross-entropy of each answer at it, (n,)."""

    temperature: float
    losses: NDArray[np.float64]


def tempered(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Tempered:
    """Divides logits by the temperature at which the mean cross-entropy is the lowest.

    Args:
        logits: What goes into the softmax, (n, classes).
        labels: The true classes, (n,).

    Returns:
        NaN for all losses, and a temperature of 1, if a logit is not finite; that temperature too
        if all logits of each image are the same.
    """
    from scipy.optimize import minimize_scalar

    if not np.isfinite(logits).all():
        return Tempered(1.0, np.full(len(labels), np.nan))
    if logits.size > _WHOLE_LOGITS:
        return _tempered_by_blocks(logits, labels)
    exact = np.asarray(logits, np.float64)
    spread = float(np.sqrt(np.mean((exact - exact.mean(axis=1, keepdims=True)) ** 2)))
    if not spread:
        return Tempered(1.0, cross_entropies(exact, labels))
    scaled, rows = exact / spread, np.arange(len(labels))

    def mean_loss(log_temperature: float) -> float:
        answers = log_probabilities(scaled * np.exp(-log_temperature))
        known, unknown = answers[rows, labels].sum(), _UNKNOWN_IMAGES * answers.mean()
        return float(-(known + unknown) / (len(labels) + _UNKNOWN_IMAGES))

    best = minimize_scalar(mean_loss, bounds=_LOG_RANGE, method="bounded").x
    losses = cross_entropies(scaled * np.exp(-best), labels)
    return Tempered(float(np.exp(best)) * spread, losses)


def _tempered_by_blocks(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Tempered:
    from scipy.optimize import minimize_scalar

    rows = max(1, _BLOCK_LOGITS // logits.shape[1])
    blocks = [slice(at, at + rows) for at in range(0, len(logits), rows)]

    def summed(temperature: float) -> tuple[float, float]:
        """Over the images: logarithms of the right class's probability, and of the mean one's."""
        known = unknown = 0.0
        for block in blocks:
            answers = log_probabilities(logits[block] / np.float64(temperature))
            known += answers[np.arange(len(answers)), labels[block]].sum()
            unknown += answers.mean(axis=1).sum()
        return known, unknown

    squares = sum(
        ((one - one.mean(axis=1, keepdims=True)) ** 2).sum()
        for one in (np.asarray(logits[block], np.float64) for block in blocks)
    )
    spread = float(np.sqrt(squares / logits.size))
    if not spread:
        return Tempered(1.0, cross_entropies(logits, labels))

    def mean_loss(log_temperature: float) -> float:
        known, unknown = summed(spread * np.exp(log_temperature))
        answered = known + _UNKNOWN_IMAGES * unknown / len(labels)
        return float(-answered / (len(labels) + _UNKNOWN_IMAGES))

    best = float(np.exp(minimize_scalar(mean_loss, bounds=_LOG_RANGE, method="bounded").x)) * spread
    losses = [cross_entropies(logits[block] / np.float64(best), labels[block]) for block in blocks]
    return Tempered(best, np.concatenate(losses))
