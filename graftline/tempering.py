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

_LOG_RANGE = (-3.0, 3.0)
"""Of the temperature; outside of it lie only answers that tell nothing apart."""


class Tempered(NamedTuple):
    """The best temperature, and the cross-entropy of each answer at it, (n,)."""

    temperature: float
    losses: NDArray[np.float64]


def tempered(probabilities: NDArray[np.float32], labels: NDArray[np.integer]) -> Tempered:
    """Divides logits by the temperature at which the mean cross-entropy is the lowest.

    Args:
        probabilities: Of each class, (n, classes), in [0, 1].
        labels: The true classes, (n,).

    Returns:
        NaN for all losses, and a temperature of 1, if a probability is not finite.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    if not np.isfinite(probabilities).all():
        return Tempered(1.0, np.full(len(labels), np.nan))
    # A probability below the resolution of 32 bits counts as that.
    logits = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).eps))
    rows = np.arange(len(labels))

    def mean_loss(log_temperature: float) -> float:
        answers = log_softmax(logits * np.exp(-log_temperature), axis=1)
        # As if there were one image more, of which every class is as likely: n right answers of n
        # would else ask for a temperature of zero.
        return float(-(answers[rows, labels].sum() + answers.mean()) / (len(labels) + 1))

    best = minimize_scalar(mean_loss, bounds=_LOG_RANGE, method="bounded").x
    return Tempered(float(np.exp(best)), -log_softmax(logits * np.exp(-best), axis=1)[rows, labels])
