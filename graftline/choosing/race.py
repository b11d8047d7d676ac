"""The race: short trainings of all candidates, longer ones of the better half, and so on.

Successive halving (Jamieson and Talwalkar, AISTATS 2016). Each training is independent: it starts
from the probe's solution (Kumar et al., ICLR 2022) and has a warm-up and a decay of its own, so a
longer one is no continuation of a shorter one, and every result can be kept and found again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graftline.artifacts import Record
from graftline.choosing.budget import Schedule, trial_cost
from graftline.choosing.candidates import Candidate
from graftline.choosing.paired import LEVEL, SAME_COST, p_worse, standard_error
from graftline.choosing.sample import Fold
from graftline.choosing.trial import Trainer, Trial
from graftline.storage import replacing_file, sha256_record


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
    """That it is no worse than the round's best; 1 for the best itself."""
    cost: int
    """Multiply-adds of this round."""
    kept: bool
    """Whether it goes on, or, in the last round, is not significantly worse than the best."""


@dataclass(frozen=True)
class Race:
    """A whole race.

    Args:
        results: Of each candidate in each round that it took part in.
        answers: By round and candidate, whether each held-out image is right.
        winner: The cheapest candidate of the last round that is not significantly worse.
        best: The candidate of the last round with the most right answers.
    """

    results: tuple[Result, ...]
    answers: dict[tuple[int, str], NDArray[np.bool_]]
    winner: Candidate
    best: Candidate


def run_race(
    candidates: Sequence[Candidate],
    folds: Sequence[Fold],
    schedule: Schedule,
    trainer: Trainer,
    folder: Path,
    seed: int,
    advance: Callable[[str], None] = lambda status: None,
) -> Race:
    """Races the candidates; what a killed race has finished is not done again.

    Args:
        candidates: The most important first; ``schedule`` says how many take part.
        folds: What each is trained on and answers.
        schedule: From :func:`graftline.choosing.budget.make_schedule`.
        trainer: Does the trainings.
        folder: Where finished trials are kept.
        seed: Of every training.
        advance: Called after each trial with what was done.
    """
    field = list(candidates[: schedule.candidates])
    used = folds[: schedule.folds]
    results: list[Result] = []
    answers: dict[tuple[int, str], NDArray[np.bool_]] = {}
    for number, rung in enumerate(schedule.rungs, 1):
        trials: dict[str, list[Trial]] = {}
        for one in field:
            trials[one.name] = []
            for fold in used:
                trials[one.name].append(
                    _kept_trial(one, rung.images_shown, fold, trainer, folder, seed)
                )
                advance(f"round {number}, {one.name}")
        right = {name: np.concatenate([t.right for t in of]) for name, of in trials.items()}
        answers |= {(number, name): values for name, values in right.items()}
        best = best_of(field, right)
        stay = (
            survivors(field, right, schedule.rungs[number].most)
            if (number < len(schedule.rungs))
            else [one for one in field if _good(one, best, right)]
        )
        for one in field:
            results.append(
                _result(one, number, rung.images_shown, used, trials, right, best, one in stay)
            )
        field = stay
    return Race(tuple(results), answers, cheapest(field, right), best)


def best_of(field: Sequence[Candidate], right: dict[str, NDArray[np.bool_]]) -> Candidate:
    """The one with the most right answers; of several, the cheapest."""
    return min(field, key=lambda one: (-int(right[one.name].sum()), cost_order(one)))


def survivors(
    field: Sequence[Candidate], right: dict[str, NDArray[np.bool_]], most: int
) -> list[Candidate]:
    """Who goes on: those with the most right answers, and in any case the cheapest good one.

    The cheapest that is not significantly worse than the best would win if the race ended now, so
    it must not be lost for being a little behind.
    """
    best = best_of(field, right)
    saved = cheapest([one for one in field if _good(one, best, right)], right)
    ranked = sorted(field, key=lambda one: (-int(right[one.name].sum()), cost_order(one)))
    chosen = ranked[:most]
    if saved not in chosen:
        chosen = [*ranked[: most - 1], saved]
    return [one for one in field if one in chosen]


def cheapest(field: Sequence[Candidate], right: dict[str, NDArray[np.bool_]]) -> Candidate:
    """The one that costs the least to train; of several that cost about the same, the best."""
    most = SAME_COST * min(one.cost for one in field)
    return best_of([one for one in field if one.cost <= most], right)


def cost_order(candidate: Candidate) -> tuple[int, int, str]:
    """What makes a candidate cheaper than another."""
    return candidate.cost, candidate.inference_cost, candidate.name


def _good(one: Candidate, best: Candidate, right: dict[str, NDArray[np.bool_]]) -> bool:
    return p_worse(right[one.name], right[best.name]) >= LEVEL


def _result(
    one: Candidate,
    number: int,
    shown: int,
    folds: Sequence[Fold],
    trials: dict[str, list[Trial]],
    right: dict[str, NDArray[np.bool_]],
    best: Candidate,
    kept: bool,
) -> Result:
    answers = right[one.name]
    losses = [trial.loss for trial in trials[one.name]]
    return Result(
        rung=number,
        candidate=one.name,
        images_shown=shown,
        folds=len(folds),
        held_out=len(answers),
        right=int(answers.sum()),
        accuracy=float(answers.mean()),
        standard_error=standard_error(answers),
        loss=float(np.average(losses, weights=[len(fold.held_out) for fold in folds])),
        p_value=p_worse(answers, right[best.name]),
        cost=sum(trial_cost(one, shown, fold) for fold in folds),
        kept=kept,
    )


def _kept_trial(
    one: Candidate, shown: int, fold: Fold, trainer: Trainer, folder: Path, seed: int
) -> Trial:
    """A trial from the checkpoints, or made now and kept there."""
    key = sha256_record([one.plan.model_dump(mode="json"), shown, fold.number, seed])
    path = folder / f"trial-{key[:24]}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return Trial(stored["right"], float(stored["loss"]))
    trial = trainer.run(one, shown, fold, seed)
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, right=trial.right, loss=np.float64(trial.loss))
    return trial
