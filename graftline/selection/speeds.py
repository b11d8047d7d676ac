"""Images per second by depth: for people, and outside all outputs, since no two runs agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from graftline.core.records import Record
from graftline.selection.depths import Depth


class DepthSpeed(Record):
    """Of the backbone cut at one depth, on this machine."""

    images_per_s: float
    measured: bool
    """Otherwise interpolated between the measured depths, by multiply-adds."""


class DepthSpeeds(Record):
    """``var/depth_speeds.json``: as this machine was last measured."""

    lies_at: ClassVar[str] = "var/depth_speeds.json"

    backbone_sha256: str
    """Of the backbone that was measured."""
    by_layer: dict[str, DepthSpeed]

    @classmethod
    def of(
        cls, backbone_sha256: str, depths: Sequence[Depth], measured: dict[str, float]
    ) -> DepthSpeeds:
        """Speeds at all depths from those at some, whose time per image is interpolated."""
        known = [depth for depth in depths if depth.layer in measured]
        seconds = np.interp(
            [depth.multiply_adds for depth in depths],
            [depth.multiply_adds for depth in known],
            [1 / measured[depth.layer] for depth in known],
        )
        return cls(
            backbone_sha256=backbone_sha256,
            by_layer={
                depth.layer: DepthSpeed(
                    images_per_s=round(float(1 / time_s), 1), measured=depth.layer in measured
                )
                for depth, time_s in zip(depths, seconds, strict=True)
            },
        )
