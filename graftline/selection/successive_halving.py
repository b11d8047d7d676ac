"""The race: short trainings of all candidates, longer ones of the better half, and so on.

Successive halving (Jamieson and Talwalkar, AISTATS 2016). Each training is independent: it starts
from the probe's solution (Kumar et al., ICLR 2022) and has a warm-up and a decay of its own, so a
longer one is no continuation of a shorter one, and every result can be kept and found again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from graftline.compute import Arrays, map_chunks
from graftline.compute.apart import apart
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
    resources: Mapping[str, float] | None = None,
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
        resources: What a worker of a cluster must offer for a training.
    """
    work = Trials(trainer, folder, seed)
    field = list(candidates[: schedule.candidates])
    used = folds[: schedule.folds]
    results: list[Result] = []
    answers: dict[tuple[int, str], Trial] = {}
    costs, heads = schedule.costs, set[object]()
    for number, rung in enumerate(schedule.rungs, 1):
        trials: dict[str, list[Trial]] = {one.name: [] for one in field}
        asked = (Asked(one, rung.images_shown, fold) for one in field for fold in used)
        # Networks and what was computed with them are used again by the next trial, so here one
        # follows the other. What comes of them is small.
        for done, found_of in map_chunks(
            f"round-{number}",
            work,
            asked,
            here=work.kept,
            at_once=1,
            keep=False,
            resources=resources,
        ):
            name = done.candidate.name
            trials[name].append(Trial(found_of["right"], found_of["losses"]))
            advance(f"round {number}, {name}")
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


@dataclass(frozen=True)
class Asked:
    """A trial that is to be made.

    Args:
        candidate: What is trained.
        images_shown: In it.
        fold: On what.
    """

    candidate: Candidate
    images_shown: int
    fold: Fold


@dataclass(frozen=True)
class Trials:
    """Makes trials and keeps them, in whichever process.

    Args:
        trainer: Does the trainings.
        folder: Where finished trials are kept.
        seed: Of every training.
    """

    trainer: TrialRunner
    folder: Path
    seed: int

    @contextmanager
    def opened(self) -> Iterator[Callable[[Asked], Arrays]]:
        """Has them made by a process of its own, since networks leave memory behind."""
        with apart(_Trainings(self)) as trained:
            yield lambda asked: self._found(asked) or trained(asked)

    def kept(self, asked: Asked) -> Arrays:
        """A trial from the checkpoints, or made now and kept there."""
        if (kept := self._found(asked)) is not None:
            return kept
        trial = self.trainer.run(asked.candidate, asked.images_shown, asked.fold, self.seed)
        arrays = {"right": trial.right, "losses": trial.losses}
        keep_arrays(self._path(asked), arrays)
        return arrays

    def _found(self, asked: Asked) -> Arrays | None:
        return kept_arrays(self._path(asked))

    def _path(self, asked: Asked) -> Path:
        plan = asked.candidate.plan.model_dump(mode="json")
        key = sha256_record([plan, asked.images_shown, asked.fold.number, self.seed])
        return self.folder / f"trial-{key[:24]}.npz"


@dataclass(frozen=True)
class _Trainings:
    """The same, by the process itself that opens it."""

    trials: Trials

    def opened(self) -> AbstractContextManager[Callable[[Asked], Arrays]]:
        return nullcontext(self.trials.kept)
