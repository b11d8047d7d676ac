"""The race: short trainings of all candidates, longer ones of the better half, and so on.

Successive halving (Jamieson and Talwalkar, AISTATS 2016). Each training is independent: it starts
from the probe's solution (Kumar et al., ICLR 2022) and has a warm-up and a decay of its own, so a
longer one is no continuation of a shorter one, and every result can be kept and found again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from graftline.core.files import sha256_record
from graftline.core.records import Record
from graftline.evaluation.paired import LEVEL, SAME_COST, p_higher, p_worse, standard_error
from graftline.selection.budget import Schedule
from graftline.selection.candidates import Candidate
from graftline.selection.folds import Fold
from graftline.selection.trial import Trial, TrialRunner, joined
from graftline.training.checkpoints import keep_arrays, kept_arrays


class Result(Record):
    """One candidate in one round."""

    rung: int
    """From 1."""
    candidate: str
    images_shown: int
    """In each fold."""
    folds: int
    held_out: int
    """Images answered, over all folds."""
    right: int
    accuracy: float
    standard_error: float
    loss: float
    p_value: float
    """That it is right no less often than the round's best, the one with the lowest loss."""
    loss_p_value: float
    """That its loss is no higher than the best's; 1 for the best itself."""
    cost: int
    """Multiply-adds of this round; the head's training is counted in the first, once a head."""
    kept: bool
    """Whether it goes on, or, in the last round, is not significantly worse than the best."""


@dataclass(frozen=True)
class Race:
    """A whole race.

    Args:
        results: Of each candidate in each round that it took part in.
        answers: By round and candidate, what came of each held-out image.
        winner: The cheapest candidate of the last round that is not significantly worse.
        best: The candidate of the last round with the lowest loss.
    """

    results: tuple[Result, ...]
    answers: dict[tuple[int, str], Trial]
    winner: Candidate
    best: Candidate


def run_race(
    candidates: Sequence[Candidate],
    folds: Sequence[Fold],
    schedule: Schedule,
    trainer: TrialRunner,
    folder: Path,
    seed: int,
    advance: Callable[[str], None] = lambda status: None,
) -> Race:
    """Races the candidates; what a killed race has finished is not done again.

    Args:
        candidates: The most important first; ``schedule`` says how many take part.
        folds: What each is trained on and answers.
        schedule: From :func:`graftline.selection.budget.make_schedule`.
        trainer: Does the trainings.
        folder: Where finished trials are kept.
        seed: Of every training.
        advance: Called after each trial with what was done.
    """
    field = list(candidates[: schedule.candidates])
    used = folds[: schedule.folds]
    results: list[Result] = []
    answers: dict[tuple[int, str], Trial] = {}
    costs, heads = schedule.costs, set[object]()
    for number, rung in enumerate(schedule.rungs, 1):
        trials: dict[str, list[Trial]] = {}
        for one in field:
            trials[one.name] = []
            for fold in used:
                trials[one.name].append(
                    _kept_trial(one, rung.images_shown, fold, trainer, folder, seed)
                )
                advance(f"round {number}, {one.name}")
        found = {name: joined(of) for name, of in trials.items()}
        answers |= {(number, name): trial for name, trial in found.items()}
        best = best_of(field, found)
        stay = (
            survivors(field, found, schedule.rungs[number].most)
            if (number < len(schedule.rungs))
            else [one for one in field if _good(one, best, found)]
        )
        for one in field:
            cost = sum(costs.of_trial(one, rung.images_shown, fold) for fold in used)
            if one.head not in heads:
                cost += costs.of_head(one, used)
                heads.add(one.head)
            round_facts = _Round(number, rung.images_shown, len(used), found, best)
            results.append(round_facts.result(one, cost, one in stay))
        field = stay
    return Race(tuple(results), answers, cheapest(field, found), best)


def best_of(field: Sequence[Candidate], found: dict[str, Trial]) -> Candidate:
    """The one with the lowest loss; of several, that with the most right answers, the cheapest.

    Between two networks a few answers turn and all losses move: of 500 digits the head alone got
    one more right than everything trained, whose loss was lower by a fifteenth, and which was
    better by 1.9 points on 5 000 others (docs/measurements/freezing.md).
    """
    return _ranked(field, found)[0]


def survivors(field: Sequence[Candidate], found: dict[str, Trial], most: int) -> list[Candidate]:
    """Who goes on: those with the lowest losses, and in any case the cheapest good one.

    The cheapest that is not significantly worse than the best would win if the race ended now, so
    it must not be lost for being a little behind.
    """
    ranked = _ranked(field, found)
    saved = cheapest([one for one in field if _good(one, ranked[0], found)], found)
    chosen = ranked[:most]
    if saved not in chosen:
        chosen = [*ranked[: most - 1], saved]
    return [one for one in field if one in chosen]


def cheapest(field: Sequence[Candidate], found: dict[str, Trial]) -> Candidate:
    """The one that costs the least to train; of several that cost about the same, the best."""
    most = SAME_COST * min(one.cost for one in field)
    return best_of([one for one in field if one.cost <= most], found)


def cost_order(candidate: Candidate) -> tuple[int, int, str]:
    """What makes a candidate cheaper than another."""
    return candidate.cost, candidate.inference_cost, candidate.name


def _ranked(field: Sequence[Candidate], found: dict[str, Trial]) -> list[Candidate]:
    def order(one: Candidate) -> tuple[float, int, tuple[int, int, str]]:
        trial = found[one.name]
        return trial.loss, -int(trial.right.sum()), cost_order(one)

    return sorted(field, key=order)


def _good(one: Candidate, best: Candidate, found: dict[str, Trial]) -> bool:
    ours, theirs = found[one.name], found[best.name]
    return (
        p_worse(ours.right, theirs.right) >= LEVEL and p_higher(ours.losses, theirs.losses) >= LEVEL
    )


@dataclass(frozen=True)
class _Round:
    number: int
    images_shown: int
    folds: int
    found: dict[str, Trial]
    best: Candidate

    def result(self, one: Candidate, cost: int, kept: bool) -> Result:
        trial, best = self.found[one.name], self.found[self.best.name]
        return Result(
            rung=self.number,
            candidate=one.name,
            images_shown=self.images_shown,
            folds=self.folds,
            held_out=len(trial.right),
            right=int(trial.right.sum()),
            accuracy=float(trial.right.mean()),
            standard_error=standard_error(trial.right),
            loss=trial.loss,
            p_value=p_worse(trial.right, best.right),
            loss_p_value=p_higher(trial.losses, best.losses),
            cost=cost,
            kept=kept,
        )


def _kept_trial(
    one: Candidate, shown: int, fold: Fold, trainer: TrialRunner, folder: Path, seed: int
) -> Trial:
    """A trial from the checkpoints, or made now and kept there."""
    key = sha256_record([one.plan.model_dump(mode="json"), shown, fold.number, seed])
    path = folder / f"trial-{key[:24]}.npz"
    if (kept := kept_arrays(path)) is not None:
        return Trial(kept["right"], kept["losses"])
    trial = trainer.run(one, shown, fold, seed)
    keep_arrays(path, {"right": trial.right, "losses": trial.losses})
    return trial
