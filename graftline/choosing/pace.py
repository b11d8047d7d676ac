"""How fast this machine trains: it turns a budget of seconds into multiply-adds."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from graftline.artifacts import Record
from graftline.choosing.candidates import Candidate, trial_cost
from graftline.choosing.sample import Fold
from graftline.choosing.trial import Trainer
from graftline.params import TuneParams

_STEPS_TIMED = 8
"""Full ones: a second or a few, and in the small batches of short trainings many times as many."""
_HELD_OUT_TIMED = 64


class Pace(Record):
    """What this machine did when it was measured.

    Attributes:
        multiply_adds_per_s: Of training.
        start_s: Seconds that a candidate needs in a round before its first step: to convert its
            frozen part, train its head and trace its steps.
        before_race_s: Seconds that choosing had taken when the race could begin.
    """

    multiply_adds_per_s: float
    start_s: float
    before_race_s: float

    def start_cost(self) -> int:
        """``start_s`` in multiply-adds."""
        return int(self.start_s * self.multiply_adds_per_s)

    def affordable(self, seconds: int) -> int:
        """Multiply-adds of the race, if all of choosing is to take so many seconds."""
        return int(max(0.0, seconds - self.before_race_s) * self.multiply_adds_per_s)


def recorded_pace(
    path: Path,
    trainer: Trainer,
    everything: Candidate,
    fold: Fold,
    tune: TuneParams,
    seed: int,
    begun_s: float,
) -> Pace:
    """This machine's pace, measured once.

    The first measurement is kept under ``var/``, so that a repeated run has the same budget and
    comes to the same choice. The same short training is done twice: the second has all made ready,
    and what the first took longer is what it takes to begin.

    Args:
        path: Where it is kept.
        trainer: Does the two trainings.
        everything: What is trained.
        fold: On what.
        tune: ``batch_size`` is read.
        seed: Of the trainings.
        begun_s: When choosing began, by ``time.monotonic``.
    """
    if path.is_file():
        return Pace.read(path)
    shown = _STEPS_TIMED * tune.batch_size
    fold = replace(fold, held_out=fold.held_out[:_HELD_OUT_TIMED])
    first_s, second_s = (_timed(trainer, everything, shown, fold, seed) for _ in range(2))
    pace = Pace(
        multiply_adds_per_s=trial_cost(everything, shown, fold) / max(second_s, 1e-6),
        start_s=max(0.0, first_s - second_s),
        before_race_s=time.monotonic() - begun_s,
    )
    pace.write(path)
    return pace


def _timed(trainer: Trainer, everything: Candidate, shown: int, fold: Fold, seed: int) -> float:
    begun_s = time.monotonic()
    trainer.run(everything, shown, fold, seed)
    return time.monotonic() - begun_s
