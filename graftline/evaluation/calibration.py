"""How far a classifier's confidences and its measured accuracy can be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_POINT = 1.959963984540054
"""Of the normal distribution: 2.5 % lie above."""


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in bins of equal width over [0, 1], each of shape (bins,).

    A bin without images has NaN as its confidence and accuracy.
    """

    images: NDArray[np.int64]
    confidence: NDArray[np.float64]
    """Mean confidence of the images in the bin."""
    accuracy: NDArray[np.float64]
    """Share of them that the model got right."""

    @property
    def edges(self) -> NDArray[np.float64]:
        """The bins' borders, shape (bins + 1,)."""
        return _edges(len(self.images))

    @property
    def expected_error(self) -> float:
        """The expected calibration error: the mean gap, weighted by images; 0 is perfect.

        Follows Naeini et al., AAAI 2015, and Guo et al., ICML 2017.
        """
        filled = self.images > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float(np.average(gaps, weights=self.images[filled]))

    @property
    def overconfidence(self) -> float:
        """Mean confidence minus accuracy over all images; below 0 the model is too modest."""
        filled = self.images > 0
        gaps = self.confidence[filled] - self.accuracy[filled]
        return float(np.average(gaps, weights=self.images[filled]))


def reliability(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int
) -> Reliability:
    """Sorts predictions into bins of equal width by their confidence.

    Args:
        confidence: The probability of the predicted class, shape (images,), in [0, 1].
        right: Whether the prediction is right, shape (images,).
        bins: How many bins; a value on a border belongs to the bin below it.

    Raises:
        ValueError: If there is no prediction, the shapes differ, or a confidence is out of range.
    """
    confidence = np.asarray(confidence, np.float64)
    right = np.asarray(right, bool)
    if confidence.ndim != 1 or confidence.shape != right.shape or not len(confidence):
        raise ValueError(
            f"one confidence per prediction, and at least one, is needed; got shapes "
            f"{confidence.shape} and {right.shape}"
        )
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("a confidence lies outside of 0 to 1")
    bin_of = np.digitize(confidence, _edges(bins)[1:-1], right=True)
    images = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin is the NaN that is promised
        return Reliability(
            images=images,
            confidence=np.bincount(bin_of, weights=confidence, minlength=bins) / images,
            accuracy=np.bincount(bin_of, weights=right, minlength=bins) / images,
        )


def accuracy_interval(right: int, images: int) -> tuple[float, float]:
    """The 95 % interval (Wilson) of an accuracy that was measured on some of all images.

    Args:
        right: How many predictions were right.
        images: Of how many; at least 1.
    """
    share = right / images
    scale = 2 * (images + _POINT**2)
    centre = (2 * right + _POINT**2) / scale
    half = _POINT / scale * math.sqrt(4 * right * (1 - share) + _POINT**2)
    # Rounding must not leave the accuracy itself outside: with none right, the low end is 0.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def _edges(bins: int) -> NDArray[np.float64]:
    return np.linspace(0, 1, bins + 1)
