"""Setting the head's standardization from the training split."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.errors import WeightsError
from graftline.network.classifier import HEAD, STANDARDIZATION
from graftline.training.datasets import Examples

_BATCH = 256
_FLOOR = 1e-3
"""Of the mean variance: a feature that hardly ever moves must not be blown up."""


def set_standardization(classifier: Any, pooled: Examples) -> None:
    """Stores mean and variance of the training split's pooled features in the head.

    Args:
        classifier: The whole network; nothing happens if its head has no standardization.
        pooled: The training split's pooled features.

    Raises:
        WeightsError: If a feature is NaN or infinite.
    """
    names = [layer.name for layer in classifier.get_layer(HEAD).layers]
    if STANDARDIZATION not in names:
        return
    with np.errstate(all="ignore"):
        mean, variance = feature_moments(pooled)
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise WeightsError(
            "the backbone gives features that are NaN or infinite",
            where="backbone.weights",
            fix="use other base weights, or another backbone.cut; no rate of training mends these",
        )
    layer = classifier.get_layer(HEAD).get_layer(STANDARDIZATION)
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(np.maximum(variance, _FLOOR * variance.mean()))


def feature_moments(pooled: Examples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of the pooled features, each (c,), in one pass of bounded memory."""
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for chunk, _ in pooled.chunks(_BATCH, order=None):
        for batch in chunk:
            features = batch.astype(np.float64)  # (batch, c)
            # Chan et al. (1979): joins the moments of two parts without losing digits.
            both = count + len(features)
            shift = features.mean(axis=0) - mean
            squares = (
                squares
                + ((features - features.mean(axis=0)) ** 2).sum(axis=0)
                + shift**2 * count * len(features) / both
            )
            mean = mean + shift * len(features) / both
            count = both
    return mean, squares / count
