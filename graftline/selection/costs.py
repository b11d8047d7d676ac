"""The costs of trainings, in multiply-adds: the head's, and the race's short tunings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graftline.selection.candidates import HEAD_STEP, Candidate
from graftline.selection.folds import Fold
from graftline.selection.settings import Settings
from graftline.selection.shortening import shortened


@dataclass(frozen=True)
class Costs:
    """Costs under some parameters.

    Args:
        settings: ``train``, ``tune`` and the number of views are read.
        head_step: What showing an image to a head costs at least; a machine's own measurement,
            since small steps take longer than their multiply-adds tell.
    """

    settings: Settings
    head_step: int = 0

    def of_head(self, candidate: Candidate, folds: Sequence[Fold]) -> int:
        """Of training a candidate's head in each fold: all of ``train``'s epochs.

        The backbone sees each view of each image once; with adapted statistics once in each fold.
        """
        epochs, images = self.settings.train.epochs, len(folds[0].images)
        views = min(self.settings.views, epochs)
        passes = len(folds) if candidate.plan.batch_norm == "adapt" else 1
        backbone = candidate.inference_cost - candidate.head_cost
        shown = epochs * sum(len(fold.train) for fold in folds)
        validated = epochs * sum(len(fold.validation) for fold in folds)
        return (
            passes * backbone * images * views
            + max(self.head_step, HEAD_STEP * candidate.head_cost) * shown
            + candidate.head_cost * validated
        )

    def of_trial(self, candidate: Candidate, shown: int, fold: Fold) -> int:
        """Of one trial after the head's training: tuning, and answering what is held out."""
        if not candidate.plan.trainable:
            return candidate.head_cost * len(fold.held_out)
        tune, used = shortened(self.settings.tune, shown, len(fold.train))
        views = min(self.settings.views, tune.epochs)
        looked_at = tune.epochs * len(fold.validation) + len(fold.held_out)
        return (
            candidate.once_cost * used * views
            + candidate.step_cost * tune.epochs * used
            + candidate.inference_cost * looked_at
        )

    def of_training(self, candidate: Candidate, images: int) -> int:
        """Of a whole training by ``train`` on so many images, what validates not counted."""
        train, tune, views = self.settings.train, self.settings.tune, self.settings.views
        backbone = candidate.inference_cost - candidate.head_cost
        head_step = max(self.head_step, HEAD_STEP * candidate.head_cost)
        head = images * (backbone * min(views, train.epochs) + head_step * train.epochs)
        if not candidate.plan.trainable:
            return head
        tuning = candidate.once_cost * min(views, tune.epochs) + candidate.step_cost * tune.epochs
        return head + images * tuning
