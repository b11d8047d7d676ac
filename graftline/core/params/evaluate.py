"""The section ``evaluate``: what is drawn and counted on the test split."""

from __future__ import annotations

from pydantic import Field

from graftline.core.params.fields import Section


class EvaluateParams(Section):
    """The figures and pictures of the test split."""

    calibration_bins: int = Field(
        default=15, ge=2, le=100, description="Bins of the expected calibration error."
    )
    worst_mistakes: int = Field(
        default=24, ge=0, le=200, description="Images in the gallery of the worst mistakes."
    )
