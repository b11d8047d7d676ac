"""Losses at the temperature that suits them best: how good answers are, not how boldly given.

A network that was trained with label smoothing is too modest, one that knows its few training
images by heart too bold, and a cross-entropy counts that like wrong answers. One temperature over
all logits mends either and changes no answer (Guo et al., ICML 2017): whoever compares networks
compares what is left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from graftline.losses import cross_entropies, log_probabilities

_LOG_RANGE = (-10.0, 10.0)
"""Of the temperature: a network that diverged for a while has logits of many thousands."""


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
        NaN for all losses, and a temperature of 1, if a logit is not finite.
    """
    from scipy.optimize import minimize_scalar

    if not np.isfinite(logits).all():
        return Tempered(1.0, np.full(len(labels), np.nan))
    exact = np.asarray(logits, np.float64)
    rows = np.arange(len(labels))

    def mean_loss(log_temperature: float) -> float:
        answers = log_probabilities(exact * np.exp(-log_temperature))
        # As if there were one image more, of which every class is as likely: n right answers of n
        # would else ask for a temperature of zero.
        return float(-(answers[rows, labels].sum() + answers.mean()) / (len(labels) + 1))

    best = minimize_scalar(mean_loss, bounds=_LOG_RANGE, method="bounded").x
    return Tempered(float(np.exp(best)), cross_entropies(exact * np.exp(-best), labels))
