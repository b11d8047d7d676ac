"""Losses come from logits, where a probability of 32 bits would be 0 or 1."""

from __future__ import annotations

import numpy as np
import pytest

from graftline.training.losses import cross_entropies, log_probabilities


def losses(*logits: list[float], label: int = 0) -> np.ndarray:
    return cross_entropies(np.array(logits, np.float32), np.full(len(logits), label, np.int32))


def test_values_worked_out_by_hand() -> None:
    assert losses([0, 0])[0] == pytest.approx(0.6931471805599453)
    assert losses([np.log(0.2), np.log(0.3), np.log(0.5)], label=2)[0] == pytest.approx(
        0.6931471805599453
    )
    # Beyond 16 nats a clipped probability said 15.9, beyond 103 an exact one says infinity.
    assert losses([0, 40], [0, 200], [-1e6, 1e6]) == pytest.approx([40, 200, 2e6])
    # A right answer by 30 nats: ln(1 + e^-30).
    assert losses([30, 0])[0] == pytest.approx(9.3576e-14, rel=1e-2)


def test_a_constant_for_each_image_changes_nothing() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 5)) * 30
    moved = logits + np.arange(20)[:, None] * 1000
    np.testing.assert_allclose(log_probabilities(moved), log_probabilities(logits), atol=1e-9)


def test_a_sure_answer_has_a_loss_of_plain_zero() -> None:
    (loss,) = losses([1e6, 0])
    assert str(loss) == "0.0"


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_is_not_finite_makes_its_own_loss_so_alone(poison: float) -> None:
    found = losses([0, 0], [0, poison], [0, 0])
    assert np.isfinite(found).tolist() == [True, False, True]
