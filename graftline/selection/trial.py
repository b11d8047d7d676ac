"""One short training of one candidate: what the race asks for, and who does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from graftline.selection.candidates import Candidate
from graftline.selection.folds import Fold


@dataclass(frozen=True)
class Trial:
    """What came of one short training.

    Args:
        right: Whether each held-out image was named right, (n,), in the order of
            ``Fold.held_out``.
        losses: The cross-entropy of each at the best temperature of its fold, (n,).
    """

    right: NDArray[np.bool_]
    losses: NDArray[np.float64]

    @property
    def loss(self) -> float:
        """The mean cross-entropy."""
        return float(self.losses.mean())


def joined(trials: Sequence[Trial]) -> Trial:
    """Those of all folds as one, in their order."""
    return Trial(
        np.concatenate([trial.right for trial in trials]),
        np.concatenate([trial.losses for trial in trials]),
    )


class TrialRunner(Protocol):
    """Trains candidates; the same arguments give the same trial."""

    def run(self, candidate: Candidate, images_shown: int, fold: Fold, seed: int) -> Trial:
        """Trains from the probe's solution, with a warm-up and a decay of its own.

        Args:
            candidate: What is cut, frozen and trained.
            images_shown: How many images are shown, those that come again counted again.
            fold: What is trained on, and what is answered; nothing else is read.
            seed: Of all that is random.
        """
