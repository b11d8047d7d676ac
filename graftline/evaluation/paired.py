"""Comparing answers to the same images: errors of one, and of the difference between two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graftline.core.exact_tests import p_as_many

LEVEL = 0.4
"""A candidate that is worse than the best with a smaller p-value, by answers or losses, is out.

The usual 0.05 protects who claims a difference; here the claim would be that there is none, and
on a few hundred images such a test overlooks a loss of several points, so the cheapest would win
for want of evidence. One standard error (0.16), as in the rule by which Breiman et al. (1984) prune
trees, still overlooked 3.7 points on 144 held-out images of flowers-grey-30. On each task of the
sweep tuning did better than the head alone, so small evidence for it is enough
(docs/measurements/freezing.md).
"""

SAME_COST = 1.25
"""What costs up to a quarter more than the cheapest counts as equally cheap, and the better wins.

Without this a depth would be given up, on little evidence, for one that saves a twentieth of the
work: on 120 flowers ``block_12_add`` for ``block_13_expand_relu``, and two points of accuracy.
"""


def p_higher(candidate: NDArray[np.float64], best: NDArray[np.float64]) -> float:
    """How likely so much higher a mean loss than the best's is if both are equally good.

    The one-sided paired t-test. On a few hundred images few answers turn from right to wrong, but
    every probability moves: what the exact test of the answers overlooks shows here sooner.

    Args:
        candidate: The loss of each image, (n,).
        best: Likewise, of the same images.
    """
    from scipy.stats import ttest_1samp

    difference = candidate - best
    if np.ptp(difference) <= 1e-12 * np.abs(best).max(initial=1.0):
        # All the same: no scatter to hold the mean against.
        return 0.0 if difference.mean() > 1e-12 else 1.0
    return float(ttest_1samp(difference, 0.0, alternative="greater").pvalue)


def standard_error(right: NDArray[np.bool_]) -> float:
    """Of an accuracy, from the answers that it counts, (n,)."""
    # One image more of each kind (Agresti and Coull), so that n of n is not known without error.
    share = (right.sum() + 1) / (len(right) + 2)
    return float(np.sqrt(share * (1 - share) / len(right)))


def paired_error(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """The standard error of the difference between two accuracies on the same images, (n,)."""
    difference = one.astype(np.float64) - other.astype(np.float64)
    return float(difference.std() / np.sqrt(len(difference)))


def p_worse(candidate: NDArray[np.bool_], best: NDArray[np.bool_]) -> float:
    """How likely so many more mistakes than the best's are if both are equally good.

    The exact one-sided test of McNemar (1947): of the images that only one of the two gets right,
    either is right on half, by chance.

    Args:
        candidate: Whether each image is right, (n,).
        best: Likewise, of the same images.
    """
    only_best = int((best & ~candidate).sum())
    only_candidate = int((candidate & ~best).sum())
    return p_as_many(only_best, only_best + only_candidate, 0.5)
