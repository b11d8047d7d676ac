"""Which of the textbook's four situations a data set is in, and what the textbook would freeze.

The rule, as courses and guides on transfer learning give it: more is inherited where more is
frozen; different data means cutting more layers off the end; much data means freezing less; with
few and similar images only the new head trains. What the rule leaves to the eye, "small" and
"similar", is measured here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graftline.selection.profile import Profile
from graftline.selection.records import Situation

FEW_PER_CLASS = 100
"""Fewer training images of a class than this are few, however flat the curve."""
WORTH_DOUBLING = 0.005
"""A data set is small while doubling it would still raise the accuracy by half a point."""
FALLS = 0.05
"""The last layers are taken to be made for other images if the probe falls there with p below
this: it is a claim, so the usual level holds."""


def situation_of(
    profile: Profile, labels: NDArray[np.integer], training_images: int, classes: int
) -> Situation:
    """Sorts a data set into one of the four.

    Args:
        profile: Its depth profile.
        labels: Of the sample that was profiled, (n,).
        training_images: In the whole training split.
        classes: How many there are.
    """
    slope, slope_error = learning_slope(profile.curve_answers == labels)
    gain = gain_of_doubling(profile, training_images)
    per_class = training_images / classes
    last = profile.last
    return Situation(
        training_images=training_images,
        images_per_class=per_class,
        slope=slope,
        slope_error=slope_error,
        gain_of_doubling=gain,
        small=per_class < FEW_PER_CLASS or gain > WORTH_DOUBLING,
        rise=profile.best.accuracy - profile.scores[0].accuracy,
        fall=last.behind,
        fall_error=last.behind_error,
        fall_p_value=last.p_value,
        different=last.p_value < FALLS,
    )


def learning_slope(right: NDArray[np.bool_]) -> tuple[float, float]:
    """Accuracy per doubling and its standard error, by least squares on each image's answers.

    Args:
        right: Whether each image is right at each size, (sizes, n); every size is twice the last.
    """
    doublings = np.arange(len(right)) - (len(right) - 1) / 2
    of_image = doublings @ right.astype(np.float64) / (doublings @ doublings)  # (n,)
    return float(of_image.mean()), float(of_image.std() / np.sqrt(len(of_image)))


def gain_of_doubling(profile: Profile, training_images: int) -> float:
    """What twice the training images would add, by a power law through the learning curve.

    The error falls as a power of the number of images (Hestness et al., 2017); the law is fitted
    to the measured points and read at the true size, which may be larger than the sample.
    """
    sizes = np.log2([point.training_images for point in profile.curve])
    # Half an image, so that a curve that reaches no error has a logarithm.
    count = profile.curve[-1].right / max(profile.curve[-1].accuracy, 1e-9)
    errors = [1 - point.accuracy + 0.5 / max(count, 1) for point in profile.curve]
    exponent, _ = np.polyfit(sizes, np.log2(errors), 1)
    exponent = min(float(exponent), 0.0)
    here = errors[-1] * 2 ** (exponent * (np.log2(training_images) - sizes[-1]))
    return float(here * (1 - 2**exponent))
