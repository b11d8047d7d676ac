"""Images per second by depth: for people, and outside all outputs, since no two runs agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graftline.core.errors import MissingOutputError
from graftline.core.records import Record
from graftline.core.workspace import Workspace
from graftline.selection.depths import Depth


class Speed(Record):
    """Of the backbone cut at one depth, on this machine."""

    images_per_s: float
    measured: bool
    """Otherwise interpolated between the measured depths, by multiply-adds."""


class Speeds(Record):
    """``var/depth_speeds.json``."""

    backbone_sha256: str
    """Of the backbone that was measured."""
    by_layer: dict[str, Speed]

    @classmethod
    def of(
        cls, backbone_sha256: str, depths: Sequence[Depth], measured: dict[str, float]
    ) -> Speeds:
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
                depth.layer: Speed(
                    images_per_s=round(float(1 / time_s), 1), measured=depth.layer in measured
                )
                for depth, time_s in zip(depths, seconds, strict=True)
            },
        )


def read_speeds(workspace: Workspace) -> Speeds | None:
    """As this machine was last measured; None if it was not."""
    try:
        return Speeds.read(workspace.var / "depth_speeds.json")
    except MissingOutputError:
        return None


def write_speeds(workspace: Workspace, speeds: Speeds) -> None:
    """Keeps them under ``var/``."""
    speeds.write(workspace.var / "depth_speeds.json")
