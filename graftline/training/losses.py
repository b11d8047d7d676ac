"""The cross-entropy of answers, taken from logits: the softmax rounds small probabilities away.

A float32 probability has lost how sure a wrong answer was where it has become 0, and how sure a
right one was where it has become 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def log_probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """The logarithm of each class's probability, (n, classes).

    Args:
        logits: What goes into the softmax, (n, classes). The logarithms of probabilities serve as
            well, since they differ from logits by a constant for each image.

    Returns:
        Nothing finite for an image of which a logit is NaN or infinite.
    """
    from scipy.special import log_softmax

    with np.errstate(invalid="ignore", over="ignore"):
        found: NDArray[np.float64] = log_softmax(np.asarray(logits, np.float64), axis=1)
    return found


def cross_entropies(
    logits: NDArray[np.floating], labels: NDArray[np.integer]
) -> NDArray[np.float64]:
    """The cross-entropy of each answer, (n,).

    Args:
        logits: See :func:`log_probabilities`.
        labels: The true classes, (n,).
    """
    # Subtracted, since the negative of 0 prints as -0.
    losses: NDArray[np.float64] = 0.0 - log_probabilities(logits)[np.arange(len(labels)), labels]
    return losses
