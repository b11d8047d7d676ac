"""The depths at which a backbone is looked at: six to ten, from early to the last layer.

Only layers count that no shortcut passes by: all that follows depends on such a layer alone, so
the backbone can be cut there. Of these, two kinds carry features of their own: the end of the last
block of one resolution and width, and the wide activation just before the resolution falls (in
MobileNetV2 the expansion of a block with stride 2, which is often the best place to cut).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from graftline.core.records import Assembled, LayerRecord, Record
from graftline.network.freeze_plans import by_block

FEWEST, MOST = 6, 10
_CHANGES_NO_FEATURE = "ZeroPadding2D"


class Depth(Record):
    """One place where the backbone can be cut."""

    layer: str
    block: str
    features: int
    """Channels, which is what pooling gives."""
    side_px: int
    """Height of the feature maps."""
    multiply_adds: int
    """Of one image from the input up to and with this layer."""


@dataclass(frozen=True)
class Cuts:
    """Layers that candidates are cut after, as the profile has them.

    Args:
        frozen: The most accurate of the cheap depths: where the head alone is trained.
        tuned: The latest depth that costs as little: where what is tuned is cut.
        later: The latest one that, frozen, is as good as the best, whatever it costs; never
            before ``tuned``.
        best: The depth with the best probe.
    """

    frozen: str
    tuned: str
    later: str
    best: str


def last_clean_layer(assembled: Assembled) -> str:
    """The last layer that the backbone can be cut after."""
    return [layer.name for layer in assembled.layers if layer.clean][-1]


def choose_depths(assembled: Assembled) -> tuple[Depth, ...]:
    """Six to ten depths, from early to the last layer, ``backbone.cut`` always among them.

    A backbone with fewer clean layers than that gives as many as it has.
    """
    layers = tuple(layer for layer in assembled.layers if layer.kind != _CHANGES_NO_FEATURE)
    clean = [layer.name for layer in layers if layer.clean]
    kept = {assembled.cut, clean[-1]}
    ends = _block_ends(layers)
    chosen = {*kept, *_stage_ends(layers, ends), *_wide_before_shrinking(layers)}
    # The earliest features are the most general and the least telling: they go first.
    for name in clean:
        if len(chosen) <= MOST:
            break
        if name not in kept:
            chosen.discard(name)
    # Families with few stages: more block ends, the late ones first.
    for name in reversed([end.name for end in ends] + clean):
        if len(chosen) >= FEWEST:
            break
        chosen.add(name)
    return tuple(depth_at(assembled, name) for name in _in_order(assembled, chosen))


def depth_at(assembled: Assembled, name: str) -> Depth:
    """What the backbone is like at one layer."""
    through = assembled.up_to(name)
    return Depth(
        layer=name,
        block=through[-1].block,
        features=through[-1].output_shape[-1],
        side_px=through[-1].output_shape[0],
        multiply_adds=sum(layer.multiply_adds for layer in through),
    )


def _block_ends(layers: tuple[LayerRecord, ...]) -> list[LayerRecord]:
    """The last layer of each block, where no shortcut passes by it."""
    ends = [members[-1] for _, members in by_block(layers)]
    return [layer for layer in ends if layer.clean]


def _stage_ends(layers: tuple[LayerRecord, ...], ends: list[LayerRecord]) -> list[str]:
    """Of block ends in a row with one resolution and width, the last."""
    stages = groupby(ends, key=lambda layer: layer.output_shape)
    return [list(members)[-1].name for _, members in stages]


def _wide_before_shrinking(layers: tuple[LayerRecord, ...]) -> list[str]:
    """The last clean layer of each resolution, where it has more channels than what it is fed."""
    found = []
    for _, members in groupby(layers, key=lambda layer: layer.output_shape[:2]):
        clean = [layer for layer in members if layer.clean]
        widths = [layer.output_shape[-1] for layer in clean]
        if clean and widths[-1] > widths[0]:
            found.append(clean[-1].name)
    return found


def _in_order(assembled: Assembled, names: set[str]) -> list[str]:
    return [layer.name for layer in assembled.layers if layer.name in names]
