"""Two samples of a model's features side by side, feature by feature, with scipy's tests.

Univariate tests on a network's representation, corrected for their number, found drift as well as
multivariate ones in Rabanser, Günnemann and Lipton (2019), "Failing Loudly: An Empirical Study of
Methods for Detecting Dataset Shift". With many images the smallest difference becomes significant,
so that the distance itself must be large too before anything counts as drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graftline.evaluation.feature_reference import FeatureSample

_DEVIATION_FLOOR = 1e-3
"""Of the mean standard deviation: a feature that never moved must not divide by nothing."""


@dataclass(frozen=True)
class FeatureTests:
    """How each feature differs between a sample and the training images; arrays are (c,).

    Args:
        distances: The Kolmogorov-Smirnov statistic: the largest distance of the two distribution
            functions, 0 to 1.
        p_values: Its p-values, adjusted by Benjamini and Hochberg (1995) for their number.
        smallest_p: The smallest p-value times their number (Bonferroni): that of the hypothesis
            that no feature differs at all.
    """

    distances: NDArray[np.float64]
    p_values: NDArray[np.float64]
    smallest_p: float

    def beyond(self, significance: float, allowed: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which features differ significantly, and by more than they may, (c,)."""
        drifted: NDArray[np.bool_] = (self.p_values < significance) & (self.distances > allowed)
        return drifted


def compare_features(train: NDArray[np.float32], batch: NDArray[np.float32]) -> FeatureTests:
    """Compares two samples, (n, c) and (m, c), feature by feature."""
    from scipy import stats

    # The exact p-values of large samples take long, and differ in digits that do not matter.
    test = stats.ks_2samp(train, batch, method="asymp", axis=0)
    return FeatureTests(
        distances=np.asarray(test.statistic),
        p_values=stats.false_discovery_control(test.pvalue),
        smallest_p=min(1.0, float(test.pvalue.min()) * len(test.pvalue)),
    )


def shift(train: NDArray[np.float32], batch: NDArray[np.float32], feature: int) -> float:
    """How far one feature's values moved on average, in standard deviations of the training images.

    It is Wasserstein's distance of the two samples, (n, c) and (m, c), divided by the deviation.
    """
    from scipy import stats

    deviations = train.std(axis=0, dtype=np.float64)
    deviation = max(deviations[feature], _DEVIATION_FLOOR * deviations.mean()) or 1.0
    return float(stats.wasserstein_distance(train[:, feature], batch[:, feature]) / deviation)


def allowed_distances(
    held_out: FeatureTests, significance: float, min_distance: float
) -> NDArray[np.float64]:
    """How far each feature may be from the training images, (c,).

    A network that knows its training images by heart gives other features on any other image.
    Where the validation split differs significantly, its distance is no drift but the usual, and
    a batch must be further away than that, by as much as elsewhere.
    """
    usual = np.where(held_out.p_values < significance, held_out.distances, 0)
    return np.asarray(usual + min_distance)


@dataclass(frozen=True)
class Shares:
    """How often each label was given.

    Args:
        train: Shares of the training images, (classes,).
        batch: Shares of the batch, (classes,).
        p_value: Of the chi-square test of both having the same shares.
        distance: Total variation: the share of answers that would have to change, 0 to 1.
    """

    train: NDArray[np.float64]
    batch: NDArray[np.float64]
    p_value: float
    distance: float


def compare_labels(train: Sequence[int], batch: Sequence[int]) -> Shares:
    """Compares two counts of each label."""
    from scipy import stats

    counts = np.array([train, batch], np.float64)
    given = counts[:, counts.sum(axis=0) > 0]
    p_value = 1.0
    if given.shape[1] > 1:
        p_value = float(stats.chi2_contingency(given).pvalue)
    first, second = counts / counts.sum(axis=1, keepdims=True)
    return Shares(first, second, p_value, float(np.abs(first - second).sum() / 2))


@dataclass(frozen=True)
class Confidence:
    """How sure the model is of its answers: of the batch, beside the validation images.

    Args:
        held_out: Mean probability of the answers on validation images.
        batch: Mean probability of the answers on the batch.
        p_value: Of the Kolmogorov-Smirnov test of both having the same distribution.
    """

    held_out: float
    batch: float
    p_value: float


def compare_confidence(held_out: FeatureSample, batch: FeatureSample) -> Confidence:
    """Compares the probabilities of the answers."""
    from scipy import stats

    test = stats.ks_2samp(held_out.confidence, batch.confidence, method="asymp")
    usual, now = (float(one.confidence.mean(dtype=np.float64)) for one in (held_out, batch))
    return Confidence(usual, now, float(test.pvalue))
