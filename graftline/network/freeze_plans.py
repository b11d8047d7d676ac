"""Plans of what trains: a backbone, where it is cut, and a strategy make one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Literal

from graftline.core.counts import counted
from graftline.core.errors import ParamsError
from graftline.core.params import FirstBlocks, FromLayer, LastBlocks
from graftline.core.records import Assembled, FreezePlan, LayerRecord
from graftline.core.stages import POOLED
from graftline.network.cutting import check_layer

NEVER_TRAINS = "BatchNormalization"
Strategy = Literal["all", "none"] | LastBlocks | FirstBlocks | FromLayer
"""A strategy that names what trains; ``auto`` finds one of these."""


def plan_freezing(
    assembled: Assembled,
    strategy: Strategy,
    *,
    cut: str | None = None,
    batch_norm: Literal["keep", "adapt"] = "keep",
) -> FreezePlan:
    """The plan for one backbone: a pure function of the backbone, its cut and the strategy.

    Args:
        assembled: The backbone.
        strategy: What trains.
        cut: Where the backbone is cut; by default where it was assembled to be.
        batch_norm: Whether BatchNormalization statistics stay those of the base weights.

    Raises:
        ParamsError: If the strategy names a layer or a number of blocks that the backbone has not.
    """
    cut = cut or assembled.cut
    layers = assembled.up_to(cut)
    if strategy == "all":
        chosen, name, reason = (
            set[str](),
            "all",
            "the whole backbone is frozen; only the head trains",
        )
    elif strategy == "none":
        chosen, name, reason = (
            {layer.name for layer in layers},
            "none",
            "the whole backbone trains",
        )
    elif isinstance(strategy, LastBlocks):
        count = strategy.last_blocks
        blocks = _some_blocks(layers, count, "freeze.strategy.last_blocks")[-count:]
        chosen, name = _layers_of(layers, blocks), f"last_blocks: {count}"
        reason = f"{_trains('last', count, ' before the cut')}, those before are frozen"
    elif isinstance(strategy, FirstBlocks):
        count = strategy.first_blocks
        blocks = _some_blocks(layers, count, "freeze.strategy.first_blocks")[:count]
        chosen, name = _layers_of(layers, blocks), f"first_blocks: {count}"
        reason = f"{_trains('first', count)}, those after are frozen"
    else:
        chosen, name, reason = _from_layer(layers, strategy)
    # Statistics and scales of the base stay as they were learnt on its many images.
    trainable = tuple(
        layer.name
        for layer in layers
        if layer.name in chosen and layer.params and layer.kind != NEVER_TRAINS
    )
    return FreezePlan(
        strategy=name,
        cut=cut,
        boundary=_boundary(layers, trainable),
        trainable=trainable,
        batch_norm=batch_norm,
        measured=False,
        reason=reason,
    )


def blocks_of(layers: tuple[LayerRecord, ...]) -> list[str]:
    """The blocks with weights that can train, from the input on.

    A block without any (the activation that a cut leaves over) is none.
    """
    return [
        block
        for block, members in by_block(layers)
        if any(layer.params and layer.kind != NEVER_TRAINS for layer in members)
    ]


def by_block(layers: tuple[LayerRecord, ...]) -> Iterator[tuple[str, list[LayerRecord]]]:
    """The layers block by block, from the input on."""
    for block, members in groupby(layers, key=lambda layer: layer.block):
        yield block, list(members)


def _from_layer(layers: tuple[LayerRecord, ...], strategy: FromLayer) -> tuple[set[str], str, str]:
    names = [layer.name for layer in layers]
    check_layer(strategy.from_layer, names, "freeze.strategy.from_layer")
    chosen = set(names[names.index(strategy.from_layer) :])
    reason = f"{strategy.from_layer} and all after it train, what comes before is frozen"
    return chosen, f"from_layer: {strategy.from_layer}", reason


def _some_blocks(layers: tuple[LayerRecord, ...], count: int, key: str) -> list[str]:
    blocks = blocks_of(layers)
    if count > len(blocks):
        raise ParamsError(
            f"{key}: got {count}, and the backbone has {counted(len(blocks), 'block')} up to its "
            "cut",
            where="params.yaml",
            allowed=f"1 to {len(blocks)}",
            fix="take fewer blocks, or set freeze.strategy: none to train them all",
        )
    return blocks


def _layers_of(layers: tuple[LayerRecord, ...], blocks: list[str]) -> set[str]:
    return {layer.name for layer in layers if layer.block in blocks}


def _boundary(layers: tuple[LayerRecord, ...], trainable: tuple[str, ...]) -> str | None:
    """The last layer before the first trainable one that no shortcut passes by."""
    if not trainable:
        return POOLED
    boundary = None
    for layer in layers:
        if layer.name == trainable[0]:
            break
        if layer.clean:
            boundary = layer.name
    return boundary


def _trains(which: str, count: int, where: str = "") -> str:
    return f"the {which} {counted(count, 'block')}{where} train{'s' if count == 1 else ''}"
