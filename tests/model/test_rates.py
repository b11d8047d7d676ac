"""The rate rises, falls, waits for its group, and grows smaller from block to block."""

from __future__ import annotations

import math

import pytest

from graftline.core.params import TuneParams
from graftline.training.schedules import tuning_rate

TUNE = TuneParams(learning_rate=0.01, warmup=0.1)


def rates(share: float = 1.0, start: int = 0, steps: int = 100) -> list[float]:
    rate = tuning_rate(TUNE, steps, share, start)
    return [float(rate(step)) for step in range(steps + 1)]


def test_it_rises_and_a_cosine_takes_it_back() -> None:
    found = rates()
    assert found[0] == pytest.approx(0.001)
    assert max(found) == pytest.approx(found[9]) and found[9] > 0.0095
    assert found[50] == pytest.approx(0.01 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert found[100] == pytest.approx(0, abs=1e-9)


def test_a_share_is_a_share_at_every_step() -> None:
    assert rates(0.25) == pytest.approx([0.25 * rate for rate in rates()])


def test_a_waiting_group_does_not_move_and_then_rises() -> None:
    found = rates(start=40)
    assert set(found[:40]) == {0.0}
    assert 0 < found[40] < found[44] < found[49]
    assert found[60] == pytest.approx(rates()[60])
