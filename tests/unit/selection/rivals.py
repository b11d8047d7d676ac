"""A backbone known by its records, and a trainer whose answers can be worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.params import (
    AugmentParams,
    ExtractParams,
    FreezeParams,
    HeadParams,
    TrainParams,
    TuneParams,
)
from graftline.core.records import Assembled
from graftline.selection.candidates import Candidate
from graftline.selection.costs import Costs
from graftline.selection.folds import Fold
from graftline.selection.settings import Settings
from graftline.selection.trial import Trial


def mobile_net(size_px: int = 96, alpha: float = 0.35) -> Assembled:
    """MobileNetV2 with random weights, as ``assemble`` would describe it."""
    from graftline.network.cutting import build_base, layer_records

    return Assembled(
        backbone="MobileNetV2",
        alpha=alpha,
        size_px=size_px,
        cut="block_13_expand_relu",
        weights="random",
        weights_sha256=None,
        backbone_digest="0" * 64,
        layers=layer_records(build_base(size_px, alpha, 0)),
        pooling="average",
        head_units=(16,),
        dropout=0.0,
        classes=("0", "1", "2"),
    )


class Scripted:
    """A trainer that gets right the first images of each fold, as many as it is told to.

    Args:
        shares: By candidate, the share of held-out images that it gets right.
        behind: By candidate, how much higher its losses are, on average; they scatter by more.
    """

    def __init__(
        self, shares: dict[str, float], default: float = 0.5, behind: dict[str, float] | None = None
    ) -> None:
        self._shares, self._default, self._behind = shares, default, behind or {}
        self.asked: list[tuple[str, int, int]] = []

    def run(self, candidate: Candidate, images_shown: int, fold: Fold, seed: int) -> Trial:
        self.asked.append((candidate.name, images_shown, fold.number))
        share = self._shares.get(candidate.name, self._default)
        count = len(fold.held_out)
        right = np.arange(count) < round(share * count)
        behind = self._behind.get(candidate.name, 0.0)
        scatter = np.where(np.arange(count) % 2 == 0, 201 * behind, -199 * behind)
        return Trial(right, np.where(right, 0.1, 2.3) + scatter)


def folds(train: int, held_out: int, number: int = 1) -> tuple[Fold, ...]:
    """Folds of so many images each."""
    return tuple(
        Fold(at, positions(train), positions(max(1, train // 10)), positions(held_out))
        for at in range(number)
    )


def costs(
    tune: TuneParams | None = None,
    train: TrainParams | None = None,
    head_step: int = 0,
    **augment: Any,
) -> Costs:
    """Costs under some parameters, and the default ones for the rest."""
    settings = Settings(
        seed=0,
        head=HeadParams(),
        freeze=FreezeParams(strategy="auto"),
        train=train or TrainParams(),
        tune=tune or TuneParams(),
        augment=AugmentParams(**augment),
        extract=ExtractParams(),
    )
    return Costs(settings, head_step)


def positions(count: int) -> NDArray[np.int64]:
    """The first positions."""
    return np.arange(count, dtype=np.int64)
