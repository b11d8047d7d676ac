"""What the sweep trains: the head alone at every depth, and boundaries at some cuts or at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from graftline.core.params import FirstBlocks, FreezeParams, LastBlocks
from graftline.core.records import Assembled, FreezePlan
from graftline.network.freeze_plans import Strategy, blocks_of
from graftline.selection.candidates import Candidate, make_candidate
from graftline.selection.depths import choose_depths

CUTS = ("block_6_expand_relu", "block_12_add", "block_13_expand_relu", "out_relu")
"""An early, two middle and the last cut."""
_LATE_CUT = "block_15_add"
"""Where everything is trained, too: on most photographs better than at the cuts above."""
_LAST_BLOCKS = (2, 5, 9)
_FIRST_BLOCKS = FirstBlocks(first_blocks=3)


def grid(assembled: Assembled, *, every: bool = False) -> list[Candidate]:
    """All to be trained; with ``every``, each number of last blocks at each depth."""
    depths = [depth.layer for depth in choose_depths(assembled)]
    found = [make_candidate(assembled, "all", cut) for cut in depths]
    for cut in depths if every else CUTS:
        blocks = len(blocks_of(assembled.up_to(cut)))
        boundaries = range(1, blocks + 1) if every else _LAST_BLOCKS
        found += [
            make_candidate(assembled, strategy, cut)
            for strategy in _strategies([count for count in boundaries if count <= blocks], blocks)
        ]
    found.append(make_candidate(assembled, "none", _LATE_CUT))
    return list({one.identity: one for one in found}.values())


def of_plan(assembled: Assembled, plan: dict[str, Any]) -> Candidate:
    """The candidate that has this plan, as a plan file holds it."""
    wanted = FreezePlan.model_validate_json(json.dumps(plan))
    return make_candidate(assembled, _strategy(wanted.strategy), wanted.cut, wanted.batch_norm)


def of_name(assembled: Assembled, name: str) -> Candidate:
    """The candidate of this name, such as ``last 5 blocks at block_12_add``."""
    words, _, cut = name.partition(" at ")
    strategy = {"head only": "all", "everything": "none"}.get(words)
    if strategy is None:
        kind, count, _ = words.split()
        strategy = f"{kind}_blocks: {count}"
    return make_candidate(assembled, _strategy(strategy), cut)


def _strategies(last_blocks: list[int], blocks: int) -> Iterator[Strategy]:
    for count in last_blocks:
        yield LastBlocks(last_blocks=count)
    if _FIRST_BLOCKS.first_blocks <= blocks:
        yield _FIRST_BLOCKS
    yield "none"


def _strategy(text: str) -> Strategy:
    strategy = FreezeParams.model_validate({"strategy": text}).strategy
    if strategy == "auto":
        raise ValueError("auto is no plan")
    return strategy
