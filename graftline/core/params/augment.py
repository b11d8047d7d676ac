"""The section ``augment``: how training images are altered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from graftline.core.params.fields import Section


class AugmentParams(Section):
    """Random changes to training images; off by default, since some change what an image is."""

    flip: Literal["none", "horizontal", "vertical", "both"] = Field(
        default="none", description="Mirror images at random."
    )
    rotation_degrees: float = Field(
        default=0.0, ge=0, le=180, description="Turn by up to this angle either way."
    )
    translation: float = Field(
        default=0.0, ge=0, le=0.5, description="Shift by up to this share of the side."
    )
    zoom: float = Field(
        default=0.0, ge=0, le=0.5, description="Enlarge or shrink by up to this share."
    )
    contrast: float = Field(
        default=0.0, ge=0, lt=1, description="Change contrast by up to this share."
    )
    brightness: float = Field(
        default=0.0, ge=0, lt=1, description="Change brightness by up to this share of white."
    )
    views: int = Field(
        default=4,
        ge=1,
        le=64,
        description="Where features are cached: changed views of each image, which epochs take in "
        "turn.",
    )
    on_unsafe: Literal["refuse", "warn"] = Field(
        default="refuse",
        description="What to do when a change turns right answers into wrong ones.",
    )
    unsafe_drop: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Share of a class's right answers that may turn wrong under a change.",
    )

    @property
    def active(self) -> bool:
        """Whether any change is asked for."""
        amounts = (self.rotation_degrees, self.translation, self.zoom)
        return self.flip != "none" or any((*amounts, self.contrast, self.brightness))
