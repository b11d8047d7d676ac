"""How fast this machine trains: it turns a budget of seconds into multiply-adds."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

from graftline.core.records import Record
from graftline.selection.candidates import Candidate
from graftline.selection.costs import Costs
from graftline.selection.folds import Fold
from graftline.selection.settings import Settings
from graftline.selection.trial import TrialRunner

_STEPS_TIMED = 32
"""Of tuning, in batches as small as any: a second or a few."""
_HEAD_STEPS_TIMED = 256
"""At least one for each of its epochs."""
_BATCH_TIMED = 8
_LOOKED_AT_TIMED = 64


class Pace(Record):
    """What this machine did when it was measured.

    Attributes:
        multiply_adds_per_s: Of tuning.
        head_image_s: Seconds that showing an image to a head takes.
        start_s: Seconds that a candidate needs in a round before its first step: to convert its
            frozen part, and to trace its steps and those of its head.
        before_race_s: Seconds that choosing had taken when the race could begin.
    """

    multiply_adds_per_s: float
    head_image_s: float
    start_s: float
    before_race_s: float

    def costs(self, settings: Settings) -> Costs:
        """Costs in multiply-adds that take as long here as what they stand for."""
        return Costs(settings, int(self.head_image_s * self.multiply_adds_per_s))

    def start_cost(self) -> int:
        """``start_s`` in multiply-adds."""
        return int(self.start_s * self.multiply_adds_per_s)

    def affordable(self, seconds: int) -> int:
        """Multiply-adds of the race, if all of choosing is to take so many seconds."""
        return int(max(0.0, seconds - self.before_race_s) * self.multiply_adds_per_s)


def recorded_pace(
    path: Path,
    trainer: TrialRunner,
    head_only: Candidate,
    everything: Candidate,
    fold: Fold,
    settings: Settings,
    begun_s: float,
) -> Pace:
    """This machine's pace, measured once.

    The first measurement is kept under ``var/``, so that a repeated run has the same budget and
    comes to the same choice. The head's training and a short tuning are each done twice, on so few
    images that this takes seconds whatever the parameters: the second time has all made ready, and
    what the first took longer is what it takes to begin.

    Args:
        path: Where it is kept.
        trainer: Does the trainings.
        head_only: The head alone, at the cut of ``everything``.
        everything: What is tuned.
        fold: On what.
        settings: ``train``, ``tune`` and ``seed`` are read.
        begun_s: When choosing began, by ``time.monotonic``.
    """
    if path.is_file():
        return Pace.read(path)
    train, tune, seed = settings.train, settings.tune, settings.seed
    steps = max(1, _HEAD_STEPS_TIMED // train.epochs)
    small = replace(
        fold,
        number=-1,
        train=fold.train[: steps * train.batch_size],
        validation=fold.validation[:_LOOKED_AT_TIMED],
        held_out=fold.held_out[:_LOOKED_AT_TIMED],
    )
    # Another fold of the same images: its head is trained anew.
    again = replace(small, number=-2)
    head_first_s, head_s = (_timed(trainer, head_only, 1, one, seed) for one in (small, again))
    most = _BATCH_TIMED * tune.epochs * math.ceil(len(small.train) / tune.batch_size)
    shown = min(_BATCH_TIMED * _STEPS_TIMED, most)
    first_s, second_s = (_timed(trainer, everything, shown, again, seed) for _ in range(2))
    pace = Pace(
        multiply_adds_per_s=Costs(settings).of_trial(everything, shown, again)
        / max(second_s, 1e-6),
        head_image_s=head_s / (train.epochs * len(small.train)),
        start_s=max(0.0, head_first_s - head_s) + max(0.0, first_s - second_s),
        before_race_s=time.monotonic() - begun_s,
    )
    pace.write(path)
    return pace


def _timed(trainer: TrialRunner, everything: Candidate, shown: int, fold: Fold, seed: int) -> float:
    begun_s = time.monotonic()
    trainer.run(everything, shown, fold, seed)
    return time.monotonic() - begun_s
