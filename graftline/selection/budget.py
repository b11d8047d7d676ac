"""How much racing a budget pays for, in multiply-adds: the same on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graftline.core.params import FreezeParams, Seconds
from graftline.selection.candidates import Candidate
from graftline.selection.costs import Costs
from graftline.selection.folds import ENOUGH_HELD_OUT, Fold
from graftline.selection.throughput import Pace
from graftline.training.schedules import ENOUGH_STEPS

FEWEST_STEPS = 32
"""Fewer cannot warm up and decay: what is tuned has not yet come back to where the head was."""
FEWEST_CANDIDATES = 2
"""Head only and everything: with one there is nothing to choose between."""
_FEWER_FOLDS = (5, 3, 2)


@dataclass(frozen=True)
class Rung:
    """One round of the race.

    Args:
        images_shown: To each candidate in each fold.
        most: How many candidates take part, at most.
    """

    images_shown: int
    most: int


@dataclass(frozen=True)
class Schedule:
    """The rounds of a race that a budget pays for.

    Args:
        rungs: In order; each shows twice as many images to half as many candidates.
        folds: How many of the folds are used.
        candidates: How many of the candidates take part, the most important first.
        cost: What it costs at most, multiply-adds.
        costs: By which that was counted.
    """

    rungs: tuple[Rung, ...]
    folds: int
    candidates: int
    cost: int
    costs: Costs


def in_multiply_adds(
    freeze: FreezeParams, costs: Costs, everything: Candidate, images: int, pace: Pace | None
) -> int | None:
    """The budget in multiply-adds; None for no limit.

    Args:
        freeze: ``budget`` is read.
        costs: Tells what a full training costs.
        everything: The candidate of which all layers train.
        images: In the training split.
        pace: This machine's; needed for a budget in seconds.
    """
    if freeze.budget == "off":
        return None
    if isinstance(freeze.budget, Seconds):
        if pace is None:
            raise ValueError("a budget in seconds needs the machine's pace")
        return pace.affordable(freeze.budget.seconds)
    return int(freeze.budget * costs.of_training(everything, images))


def make_schedule(
    candidates: Sequence[Candidate],
    folds: Sequence[Fold],
    costs: Costs,
    budget: int | None,
    start_cost: int = 0,
) -> Schedule | None:
    """The race that a budget pays for; None if it is too small for a single round.

    Without a limit every candidate is trained to its end in every fold. With one, every round
    should go on for ENOUGH_STEPS, and the last should show every training image once, since what a
    few steps gain tells little of what many will. For that, candidates are given up before folds: a
    choice among few that rests on enough held-out images is worth more than one among many that is
    left to chance, and the candidates that come first stand for the others. Then folds are given
    up, and at last length: the least of candidates then share the budget, so that it is as long as
    can be.

    Args:
        candidates: The most important first.
        folds: All that there are.
        costs: Of heads and trials.
        budget: In multiply-adds; None for no limit.
        start_cost: What a candidate costs in a round before its first step, in multiply-adds.
    """
    tune = costs.settings.tune
    full = tune.epochs * len(folds[0].train)
    if budget is None:
        whole = _Shape(candidates, folds, len(candidates), len(folds), 1, full, costs, start_cost)
        return whole.of(full)
    few, enough = (min(steps * tune.batch_size, full) for steps in (FEWEST_STEPS, ENOUGH_STEPS))
    once_all = min(max(len(folds[0].train), enough), full)
    fewest = min(FEWEST_CANDIDATES, len(candidates))
    for at_first, at_last, most in ((enough, once_all, len(candidates)), (few, few, fewest)):
        for count in _fold_counts(folds):
            for field in range(most, fewest - 1, -1):
                for rounds in range(_rounds(field), 0, -1):
                    least = max(at_first, -(-at_last >> (rounds - 1)))
                    shape = _Shape(candidates, folds, field, count, rounds, full, costs, start_cost)
                    if shape.of(least).cost <= budget:
                        return shape.largest(least, budget)
    return None


def _fold_counts(folds: Sequence[Fold]) -> list[int]:
    """How many folds may be used: as many as hold out enough images, or else fewer."""
    wanted = min(len(folds), math.ceil(ENOUGH_HELD_OUT / len(folds[0].held_out)))
    return [wanted, *(count for count in _FEWER_FOLDS if count < wanted)]


def _rounds(field: int) -> int:
    """Halvings until two are left, and the round between these."""
    return max(1, (field - 1).bit_length())


@dataclass(frozen=True)
class _Shape:
    """A race that lacks nothing but how many images its first round shows."""

    candidates: Sequence[Candidate]
    folds: Sequence[Fold]
    field: int
    count: int
    rounds: int
    full: int
    costs: Costs
    start_cost: int

    def of(self, shown: int) -> Schedule:
        rungs = tuple(
            Rung(min(shown << at, self.full), max(2, -(-self.field // (1 << at))))
            for at in range(self.rounds)
        )
        return Schedule(rungs, self.count, self.field, self._cost(rungs), self.costs)

    def largest(self, least: int, budget: int) -> Schedule:
        """With the most images that keep to the budget, by bisection."""
        low, high = least, max(self.full >> (self.rounds - 1), least)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.of(middle).cost <= budget else (low, middle - 1)
        return self.of(low)

    def _cost(self, rungs: tuple[Rung, ...]) -> int:
        raced, used = self.candidates[: self.field], self.folds[: self.count]
        # Heads are trained once, whatever comes after them.
        of_heads = {one.head: self.costs.of_head(one, used) for one in raced}
        cost = sum(of_heads.values())
        for rung in rungs:
            # Who stays is not known before: the dearest may.
            each = sorted(
                self.start_cost
                + sum(self.costs.of_trial(one, rung.images_shown, fold) for fold in used)
                for one in raced
            )
            cost += sum(each[-rung.most :])
        return cost
