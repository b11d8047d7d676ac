"""Tempered losses count how good answers are, whatever their temperature."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from graftline.loop import cross_entropies
from graftline.tempering import tempered


def answers(seed: int, images: int, classes: int, skill: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, classes), and labels (n,) that have the higher logits the more skill there is."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, classes, images)
    return chance.normal(size=(images, classes)) + skill * np.eye(classes)[labels], labels


def tempered_losses(given_so: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return tempered(given_so, labels).losses


def probabilities(logits: np.ndarray) -> np.ndarray:
    return np.asarray(softmax(logits, axis=1), np.float32)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    images=st.integers(2, 60),
    classes=st.integers(2, 12),
    skill=st.floats(0, 4),
    boldness=st.floats(0.5, 2),
)
def test_boldness_does_not_count(
    seed: int, images: int, classes: int, skill: float, boldness: float
) -> None:
    logits, labels = answers(seed, images, classes, skill)
    plain = tempered_losses(probabilities(logits), labels)
    bold = tempered_losses(probabilities(boldness * logits), labels)
    # Where the answers are no better than guesses, the best temperature is the highest allowed.
    if plain.mean() < 0.8 * np.log(classes):
        assert bold == pytest.approx(plain, abs=2e-3)


@pytest.mark.parametrize("boldness", [0.2, 20.0])
def test_a_wrong_temperature_costs_nothing_any_more(boldness: float) -> None:
    logits, labels = answers(0, 400, 10, 3.0)
    given_so = probabilities(boldness * logits)
    assert cross_entropies(given_so, labels).mean() > 1.3 * tempered_losses(given_so, labels).mean()


def test_the_temperature_is_the_one_that_mends_the_answers() -> None:
    logits, labels = answers(0, 4000, 10, 3.0)
    # Of unit noise and a shift of 3, three times the logits are the true log odds.
    assert tempered(probabilities(logits), labels).temperature == pytest.approx(1 / 3, rel=0.1)
    assert tempered(probabilities(6 * logits), labels).temperature == pytest.approx(2, rel=0.1)


def test_only_right_answers_ask_for_no_temperature_of_zero() -> None:
    modest, bold = (
        tempered_losses(np.array(rows, np.float32), np.array([0, 1] * 6))
        for rows in ([[0.9, 0.1], [0.1, 0.9]] * 6, [[0.999, 0.001], [0.001, 0.999]] * 6)
    )
    assert modest == pytest.approx(bold, rel=1e-3)
    # One more image, of which nothing is known, is wrong in half of all cases: 0.5 of 13.
    assert modest.mean() == pytest.approx(-np.log(1 - 0.5 / 13), rel=1e-2)


def test_better_answers_have_lower_losses() -> None:
    (weak, labels), (strong, same) = (answers(1, 300, 5, skill) for skill in (1.0, 2.0))
    assert (labels == same).all()
    # However modestly the better ones are given.
    assert (
        tempered_losses(probabilities(0.1 * strong), labels).mean()
        < tempered_losses(probabilities(weak), labels).mean()
    )


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(poison: float) -> None:
    given_so = probabilities(np.zeros((4, 3)))
    given_so[2, 1] = poison
    assert np.isnan(tempered_losses(given_so, np.zeros(4, np.int32))).all()
