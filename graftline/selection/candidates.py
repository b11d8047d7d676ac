"""The candidates: cuts and boundaries worth racing, with their costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from graftline.core.params import FirstBlocks, LastBlocks
from graftline.core.records import Assembled, FreezePlan, Record
from graftline.core.stages import POOLED
from graftline.network.freeze_plans import Strategy, blocks_of, plan_freezing
from graftline.selection.depths import Cuts, depth_at, last_clean_layer

_BACKWARD_TO_INPUT = _BACKWARD_TO_WEIGHTS = 1
"""Passing a gradient through a layer costs as much as running it, and so does its own."""
HEAD_STEP = 1 + _BACKWARD_TO_INPUT + _BACKWARD_TO_WEIGHTS
"""How often a head's multiply-adds are done when an image is shown to it."""
_SHARES_OF_BLOCKS = (0.15, 0.35, 0.6)
"""Boundaries for the last blocks: each adds about as much freedom as the one before it."""
_SHARE_OF_FIRST_BLOCKS = 0.2
_EPOCHS = 10
"""Over which costs are compared: a usual length, the same whatever ``tune.epochs`` says."""

BatchNorm = Literal["keep", "adapt"]


class Candidate(Record):
    """One plan, and what it costs in multiply-adds."""

    name: str
    plan: FreezePlan
    once_cost: int
    """Per training image, once: the frozen part, whose outputs are cached."""
    step_cost: int
    """Per training image each time that it is shown: forward from the cache on, and backward."""
    inference_cost: int
    """Per image, when the model is used: backbone up to the cut, and head."""
    head_cost: int
    """Per image: of that, the head."""

    @property
    def identity(self) -> tuple[object, ...]:
        """The same for candidates that train alike, whatever their names."""
        return self.plan.cut, self.plan.trainable, self.plan.batch_norm

    @property
    def head(self) -> tuple[str, BatchNorm]:
        """The same for candidates that begin with the same trained head."""
        return self.plan.cut, self.plan.batch_norm

    @property
    def cost(self) -> int:
        """Per training image, over ten epochs: what makes a candidate cheaper than another."""
        return self.once_cost + _EPOCHS * self.step_cost

    def training_cost(self, images: int, shown: int) -> int:
        """Of a training of so many images that are shown so many times in all."""
        return self.once_cost * min(images, shown) + self.step_cost * shown


def make_candidate(
    assembled: Assembled, strategy: Strategy, cut: str, batch_norm: BatchNorm = "keep"
) -> Candidate:
    """A candidate for one strategy at one cut."""
    plan = plan_freezing(assembled, strategy, cut=cut, batch_norm=batch_norm)
    adapted = ", statistics adapted" if batch_norm == "adapt" else ""
    once, step = _training_costs(assembled, plan)
    head = _head_cost(assembled, cut)
    return Candidate(
        name=f"{_words(plan.strategy)} at {cut}{adapted}",
        plan=plan,
        once_cost=once,
        step_cost=step,
        inference_cost=depth_at(assembled, cut).multiply_adds + head,
        head_cost=head,
    )


def make_candidates(
    assembled: Assembled, cuts: Cuts, batch_norm: BatchNorm = "keep", also: Candidate | None = None
) -> tuple[Candidate, ...]:
    """What is raced, the most important first: a small budget leaves out the last ones.

    Args:
        assembled: The backbone.
        cuts: Where they are cut.
        batch_norm: With ``adapt``, variants with adapted statistics are raced too.
        also: Another one, which comes third: the first two are the least that is to choose from.
    """
    wanted = [
        make_candidate(assembled, strategy, cut, statistics)
        for strategy, cut, statistics in _wanted(assembled, cuts, batch_norm)
    ]
    if also is not None:
        wanted.insert(2, also)
    found: dict[tuple[object, ...], Candidate] = {}
    for one in wanted:
        found.setdefault(one.identity, one)
    return tuple(found.values())


def _wanted(
    assembled: Assembled, cuts: Cuts, batch_norm: BatchNorm
) -> Iterator[tuple[Strategy, str, BatchNorm]]:
    last_cut = last_clean_layer(assembled)
    fewer, middle, more = _last_blocks(assembled, cuts.tuned)
    yield "all", cuts.frozen, "keep"
    # If there is only one other, it is the one that can learn the most: where tuning gains
    # anything on few images, it gains the most where everything trains
    # (docs/measurements/freezing.md).
    yield "none", cuts.tuned, "keep"
    # Many images can use what the cheap depths lack.
    yield "none", cuts.later, "keep"
    yield middle, cuts.tuned, "keep"
    yield more, cuts.tuned, "keep"
    yield fewer, cuts.tuned, "keep"
    yield _first_blocks(assembled, cuts.tuned), cuts.tuned, "keep"
    # The same as above where the two cuts are one.
    yield "none", cuts.frozen, "keep"
    if cuts.best != cuts.frozen:
        yield "all", cuts.best, "keep"
    if batch_norm == "adapt":
        yield "all", cuts.frozen, "adapt"
        yield middle, cuts.tuned, "adapt"
        yield "none", cuts.tuned, "adapt"
    # What is cut off when frozen may be worth keeping when it trains.
    if last_cut != cuts.tuned:
        yield "none", last_cut, "keep"
        yield middle_blocks(assembled, last_cut), last_cut, "keep"


def middle_blocks(assembled: Assembled, cut: str) -> LastBlocks:
    """The last blocks that train where neither few nor nearly all should."""
    return _last_blocks(assembled, cut)[1]


def _last_blocks(assembled: Assembled, cut: str) -> tuple[LastBlocks, LastBlocks, LastBlocks]:
    blocks = len(blocks_of(assembled.up_to(cut)))
    fewer, middle, more = (
        LastBlocks(last_blocks=min(max(1, round(share * blocks)), blocks))
        for share in _SHARES_OF_BLOCKS
    )
    return fewer, middle, more


def _first_blocks(assembled: Assembled, cut: str) -> FirstBlocks:
    blocks = len(blocks_of(assembled.up_to(cut)))
    return FirstBlocks(first_blocks=max(1, round(_SHARE_OF_FIRST_BLOCKS * blocks)))


def _training_costs(assembled: Assembled, plan: FreezePlan) -> tuple[int, int]:
    layers = assembled.up_to(plan.cut)
    names = [layer.name for layer in layers]
    head_step = _head_cost(assembled, plan.cut) * HEAD_STEP
    if plan.boundary == POOLED:
        return sum(layer.multiply_adds for layer in layers), head_step
    cached = 0 if plan.boundary is None else names.index(plan.boundary) + 1
    once = sum(layer.multiply_adds for layer in layers[:cached])
    forward = sum(layer.multiply_adds for layer in layers[cached:])
    first = names.index(plan.trainable[0])
    backward = sum(
        layer.multiply_adds
        * (_BACKWARD_TO_INPUT + _BACKWARD_TO_WEIGHTS * (layer.name in plan.trainable))
        for layer in layers[first:]
    )
    return once, forward + backward + head_step


def _head_cost(assembled: Assembled, cut: str) -> int:
    widths = [assembled.feature_dim(cut), *assembled.head_units, len(assembled.classes)]
    return sum(before * after for before, after in zip(widths, widths[1:], strict=False))


def _words(strategy: str) -> str:
    """A strategy as people say it: ``last_blocks: 3`` is "last 3 blocks"."""
    if strategy == "all":
        return "head only"
    if strategy == "none":
        return "everything"
    kind, _, count = strategy.partition(": ")
    return f"{kind.removesuffix('_blocks')} {count} block{'s' if count != '1' else ''}"
