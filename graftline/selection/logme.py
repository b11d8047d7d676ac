"""LogME: how well a linear model on features explains the labels, without training one.

You, Liu, Wang, Long: LogME: Practical Assessment of Pre-trained Models for Transfer Learning,
ICML 2021. It was validated for ranking networks, not the layers of one, so it stands in the
profile as a hint and decides nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MOST_ROUNDS = 50
_CLOSE = 1e-3


def log_me(features: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The logarithm of the maximum evidence per image, averaged over the classes.

    Args:
        features: (n, c).
        labels: (n,), each class's index.
    """
    # Through the smaller Gram matrix; squares of singular values are all that is needed.
    left, singular, _ = np.linalg.svd(np.asarray(features, np.float64), full_matrices=False)
    squares = singular**2  # (k,)
    evidences = []
    for label in np.unique(labels):
        targets = (labels == label).astype(np.float64)
        evidences.append(_evidence(targets, left.T @ targets, squares, features.shape))
    return float(np.mean(evidences))


def _evidence(
    targets: NDArray[np.float64],
    projected: NDArray[np.float64],
    squares: NDArray[np.float64],
    shape: tuple[int, ...],
) -> float:
    """Of one class: MacKay's fixed point for the two precisions, then the evidence there."""
    images, width = shape
    unexplained = float(targets @ targets - projected @ projected)
    alpha = beta = 1.0
    for _ in range(_MOST_ROUNDS):
        shrunk = beta * squares / (alpha + beta * squares)
        gamma = float(shrunk.sum())
        weights = float((beta**2 * squares * projected**2 / (alpha + beta * squares) ** 2).sum())
        misfit = float(((1 - shrunk) ** 2 * projected**2).sum()) + max(unexplained, 0.0)
        new_alpha, new_beta = gamma / max(weights, 1e-12), (images - gamma) / max(misfit, 1e-12)
        moved = abs(new_alpha / new_beta - alpha / beta) / (alpha / beta)
        alpha, beta = new_alpha, new_beta
        if moved < _CLOSE:
            break
    shrunk = beta * squares / (alpha + beta * squares)
    weights = float((beta**2 * squares * projected**2 / (alpha + beta * squares) ** 2).sum())
    misfit = float(((1 - shrunk) ** 2 * projected**2).sum()) + max(unexplained, 0.0)
    log_determinant = float(np.log(alpha + beta * squares).sum())
    log_determinant += (width - len(squares)) * np.log(alpha)
    evidence = width * np.log(alpha) + images * np.log(beta) - log_determinant
    evidence -= beta * misfit + alpha * weights + images * np.log(2 * np.pi)
    return float(evidence) / (2 * images)
