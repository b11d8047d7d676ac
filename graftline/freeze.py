"""Step ``freeze``: the named strategy becomes a plan of which layers train."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from graftline.artifacts import Assembled, FreezePlan, LayerRecord
from graftline.errors import ParamsError
from graftline.params import FirstBlocks, FromLayer, LastBlocks, Params
from graftline.storage import replacing_directory
from graftline.trunk import check_layer
from graftline.workspace import Workspace

POOLED = "pooled"
"""The boundary when the whole trunk is frozen: what is cached are pooled features."""
_NEVER_TRAINS = "BatchNormalization"


def freeze(workspace: Workspace, params: Params) -> FreezePlan:
    """Turns ``freeze.strategy`` into a plan, and writes the plan and its table.

    Writes ``models/freeze_plan.json``, ``reports/freezing/table.md`` (by block) and
    ``reports/freezing/layers.csv`` (by layer).

    Raises:
        ParamsError: If the strategy names a layer or a number of blocks that the trunk has not.
        MissingOutputError: If ``assemble`` has not run.
    """
    assembled = Assembled.read(workspace.assembled / "assembled.json")
    plan = plan_freezing(assembled, params)
    with replacing_directory(workspace.freezing_report) as folder:
        (folder / "table.md").write_text(freezing_table(assembled, plan), encoding="utf-8")
        _write_layers(assembled, plan, folder / "layers.csv")
    plan.write(workspace.freeze_plan)
    return plan


def plan_freezing(assembled: Assembled, params: Params) -> FreezePlan:
    """The plan for one trunk: a pure function of the trunk and the strategy."""
    strategy, layers = params.freeze.strategy, assembled.layers
    if strategy == "all":
        chosen, name, reason = (
            set[str](),
            "all",
            "the whole trunk is frozen; only the head trains",
        )
    elif strategy == "none":
        chosen, name, reason = (
            {layer.name for layer in layers},
            "none",
            "the whole trunk trains",
        )
    elif isinstance(strategy, LastBlocks):
        count = strategy.last_blocks
        blocks = _some_blocks(layers, count, "freeze.strategy.last_blocks")[-count:]
        chosen, name = _layers_of(layers, blocks), f"last_blocks: {count}"
        reason = f"the last {count} blocks before the cut train, those before them are frozen"
    elif isinstance(strategy, FirstBlocks):
        count = strategy.first_blocks
        blocks = _some_blocks(layers, count, "freeze.strategy.first_blocks")[:count]
        chosen, name = _layers_of(layers, blocks), f"first_blocks: {count}"
        reason = f"the first {count} blocks train, those after them are frozen"
    else:
        chosen, name, reason = _from_layer(layers, strategy)
    # Statistics and scales of the base stay as they were learnt on its many images.
    trainable = tuple(
        layer.name
        for layer in layers
        if layer.name in chosen and layer.params and layer.kind != _NEVER_TRAINS
    )
    return FreezePlan(
        strategy=name,
        cut=assembled.cut,
        boundary=_boundary(layers, trainable),
        trainable=trainable,
        reason=reason,
    )


def block_rows(
    layers: tuple[LayerRecord, ...], trainable: tuple[str, ...]
) -> Iterator[tuple[str, int, str, int, int]]:
    """Per block: name, layers, output shape, frozen parameters, trainable parameters."""
    for block, members in _by_block(layers):
        training = sum(layer.params for layer in members if layer.name in trainable)
        total = sum(layer.params for layer in members)
        shape = "x".join(str(size) for size in members[-1].output_shape)
        yield block, len(members), shape, total - training, training


def freezing_table(assembled: Assembled, plan: FreezePlan) -> str:
    """The plan as a Markdown table, from the input to the head."""
    lines = [
        f"Strategy `{plan.strategy}`: {plan.reason}.",
        "",
        "| block | layers | output | state | frozen | trainable |",
        "| --- | ---: | --- | --- | ---: | ---: |",
    ]
    frozen_total = training_total = 0
    for block, count, shape, frozen, training in block_rows(assembled.layers, plan.trainable):
        state = "trainable" if training else "frozen"
        lines.append(f"| {block} | {count} | {shape} | {state} | {frozen:,} | {training:,} |")
        frozen_total, training_total = frozen_total + frozen, training_total + training
    head = head_params(assembled)
    lines.append(
        f"| head | {len(assembled.head_units) + 1} | {len(assembled.classes)} | "
        f"trainable | 0 | {head:,} |"
    )
    lines.append(f"| **total** | | | | **{frozen_total:,}** | **{training_total + head:,}** |")
    lines += [
        "",
        f"The trunk is cut after `{plan.cut}`; {_cached(plan.boundary)}.",
        "BatchNormalization layers of the base never train and stay in inference mode.",
        "",
    ]
    return "\n".join(lines)


def head_params(assembled: Assembled) -> int:
    """The number of weights in the head."""
    widths = [assembled.feature_dim, *assembled.head_units, len(assembled.classes)]
    return sum((before + 1) * after for before, after in zip(widths, widths[1:], strict=False))


def _write_layers(assembled: Assembled, plan: FreezePlan, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("layer", "kind", "block", "output", "params", "state"))
        for layer in assembled.layers:
            state = "trainable" if layer.name in plan.trainable else "frozen"
            shape = "x".join(str(size) for size in layer.output_shape)
            writer.writerow((layer.name, layer.kind, layer.block, shape, layer.params, state))


def _cached(boundary: str | None) -> str:
    if boundary is None:
        return "its first layers train, so each epoch runs the images through all of it"
    if boundary == POOLED:
        return "its pooled outputs are computed once and every epoch reads them from the cache"
    return f"the outputs of `{boundary}` are computed once and every epoch starts from there"


def _from_layer(layers: tuple[LayerRecord, ...], strategy: FromLayer) -> tuple[set[str], str, str]:
    names = [layer.name for layer in layers]
    check_layer(strategy.from_layer, names, "freeze.strategy.from_layer")
    chosen = set(names[names.index(strategy.from_layer) :])
    reason = f"{strategy.from_layer} and all after it train, what comes before is frozen"
    return chosen, f"from_layer: {strategy.from_layer}", reason


def _by_block(
    layers: tuple[LayerRecord, ...],
) -> Iterator[tuple[str, list[LayerRecord]]]:
    for block, members in groupby(layers, key=lambda layer: layer.block):
        yield block, list(members)


def _some_blocks(layers: tuple[LayerRecord, ...], count: int, key: str) -> list[str]:
    # A block without weights that can train (the activation a cut leaves over) is none.
    blocks = [
        block
        for block, members in _by_block(layers)
        if any(layer.params and layer.kind != _NEVER_TRAINS for layer in members)
    ]
    if count > len(blocks):
        raise ParamsError(
            f"{key}: got {count}, and the trunk has {len(blocks)} blocks up to its cut",
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
