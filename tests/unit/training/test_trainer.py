"""Which weights are kept: the last ones, unless they are surely worse than others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graftline.training.temperature import Tempered
from graftline.training.trainer import BestEpoch


class Variable:
    """As much of a Keras variable as is asked for."""

    def __init__(self) -> None:
        self.value = np.zeros(1)

    def numpy(self) -> Any:
        return self.value

    def assign(self, value: Any) -> None:
        self.value = np.array(value)


def kept(*offers: tuple[int, np.ndarray]) -> int:
    """The epoch that is kept of epochs in turn, each with its phase and losses."""
    variable = Variable()
    best = BestEpoch([variable])
    for epoch, (phase, losses) in enumerate(offers, 1):
        variable.assign([epoch])
        best.offer(epoch, phase, float(losses.mean()), Tempered(float(epoch), losses))
    variable.assign([0])
    best.restore()
    assert variable.value == [best.epoch] == [best.temperature]
    return best.epoch


LOW, HIGH = np.full(50, 0.1), np.full(50, 0.5)
NOISY = 0.13 + 0.2 * (-1.0) ** np.arange(50)
# Otherwise noisy: nothing tells it from the former, and all from LOW.
WORSE = 0.18 - 0.2 * (-1.0) ** np.arange(50)


@pytest.mark.parametrize(
    ("offers", "epoch"),
    [
        ([(1, HIGH), (1, LOW), (1, HIGH)], 2),
        ([(1, LOW), (1, LOW)], 2),
        ([(1, LOW), (1, NOISY)], 2),
        ([(1, LOW), (1, NOISY), (1, WORSE)], 2),
        # A little worse, and not surely: the tuned ones stand.
        ([(1, LOW), (2, NOISY)], 2),
        ([(1, LOW), (2, HIGH)], 1),
        ([(1, LOW), (2, HIGH), (2, NOISY), (2, HIGH)], 3),
        ([(1, LOW), (2, np.full(50, np.nan))], 1),
        ([(1, HIGH), (2, LOW), (2, NOISY)], 3),
        ([(1, HIGH), (2, LOW), (2, NOISY), (2, HIGH)], 3),
        # Not worse than the tuned ones before, but than the head was.
        ([(1, LOW), (2, NOISY), (2, WORSE)], 2),
        ([(1, HIGH), (2, LOW), (2, np.full(50, np.nan))], 2),
        ([(1, HIGH), (2, np.full(50, np.nan)), (2, LOW)], 3),
        ([(1, np.full(50, np.nan)), (1, LOW)], 2),
    ],
)
def test_what_is_kept(offers: list[tuple[int, np.ndarray]], epoch: int) -> None:
    assert kept(*offers) == epoch
