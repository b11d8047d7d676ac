"""The section ``drift``: when new images count as others than those of the training."""

from __future__ import annotations

from pydantic import Field

from graftline.core.params.fields import Fraction, Section


class DriftParams(Section):
    """When new images count as others than those of the training: read by flows.predict alone."""

    significance: Fraction = Field(
        default=0.01,
        description="A feature differs if its p-value, adjusted for the number of features, is "
        "below this.",
    )
    min_distance: float = Field(
        default=0.15,
        ge=0,
        lt=1,
        description="It has drifted if its distance from the training images (Kolmogorov-Smirnov, "
        "0 to 1) is above this too; where the validation split differs, above its distance plus "
        "this.",
    )
    threshold: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of drifted features above which the flow raises graftline.drift.",
    )
