"""Tempered losses count how good answers are, whatever their temperature."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftline.training.losses import cross_entropies
from graftline.training.temperature import tempered


def answers(seed: int, images: int, classes: int, skill: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, classes), and labels (n,) that have the higher logits the more skill there is."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, classes, images)
    return chance.normal(size=(images, classes)) + skill * np.eye(classes)[labels], labels


def tempered_losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return tempered(logits.astype(np.float32), labels).losses


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    images=st.integers(2, 60),
    classes=st.integers(2, 12),
    skill=st.floats(0, 4),
    boldness=st.floats(1e-3, 1e3),
)
def test_boldness_does_not_count(
    seed: int, images: int, classes: int, skill: float, boldness: float
) -> None:
    logits, labels = answers(seed, images, classes, skill)
    plain, bold = tempered_losses(logits, labels), tempered_losses(boldness * logits, labels)
    assert bold == pytest.approx(plain, abs=2e-3)


@pytest.mark.parametrize("boldness", [0.2, 20.0, 1000.0])
def test_a_wrong_temperature_costs_nothing_any_more(boldness: float) -> None:
    logits, labels = answers(0, 400, 10, 3.0)
    losses = cross_entropies(boldness * logits, labels)
    assert losses.mean() > 1.3 * tempered_losses(boldness * logits, labels).mean()


def test_the_temperature_is_the_one_that_mends_the_answers() -> None:
    logits, labels = answers(0, 4000, 10, 3.0)
    # Of unit noise and a shift of 3, three times the logits are the true log odds.
    assert tempered(logits, labels).temperature == pytest.approx(1 / 3, rel=0.1)
    assert tempered(6 * logits, labels).temperature == pytest.approx(2, rel=0.1)


def test_only_right_answers_ask_for_no_temperature_of_zero() -> None:
    modest, bold = (
        tempered_losses(np.log(rows), np.array([0, 1] * 6))
        for rows in ([[0.9, 0.1], [0.1, 0.9]] * 6, [[0.999, 0.001], [0.001, 0.999]] * 6)
    )
    assert modest == pytest.approx(bold, rel=1e-3)
    # A quarter of an image more, of which nothing is known, is wrong in half of all cases: an
    # eighth of 12.25.
    assert modest.mean() == pytest.approx(-np.log(1 - 0.125 / 12.25), rel=1e-2)


def test_better_answers_have_lower_losses() -> None:
    (weak, labels), (strong, same) = (answers(1, 300, 5, skill) for skill in (1.0, 2.0))
    assert (labels == same).all()
    # However modestly the better ones are given.
    assert tempered_losses(0.1 * strong, labels).mean() < tempered_losses(weak, labels).mean()


def test_nothing_of_a_sure_mistake_is_clipped() -> None:
    # 399 right answers by 50 nats, one wrong by 5000: no probability of 32 bits holds either.
    logits = np.tile(np.array([50.0, 0.0], np.float32), (400, 1))
    logits[0] = [0.0, 5000.0]
    found = tempered(logits, np.zeros(400, np.int32))
    # The loss is lowest where 5000 = 399 x 50 / (1 + exp(50 / T)), so at T = 50 / ln 2.99; the
    # quarter of an image of which nothing is known moves it a little.
    assert found.losses[0] == pytest.approx(5000 / found.temperature)
    assert found.losses[1:] == pytest.approx(np.log1p(np.exp(-50 / found.temperature)))
    assert found.temperature == pytest.approx(45.65, rel=0.01)


def test_answers_that_say_nothing_stay_as_they_are() -> None:
    logits = np.full((5, 4), 7.0)
    assert tempered(logits, np.arange(5) % 4).temperature == 1
    assert tempered_losses(logits, np.arange(5) % 4) == pytest.approx(np.log(4))


def test_wrong_answers_are_made_modest_and_can_still_be_told_apart() -> None:
    logits = np.array([[8.0, 0.0], [0.0, 8.0], [9.0, 0.0]], np.float32)
    temperature = tempered(logits, np.array([1, 0, 1])).temperature
    assert np.abs(logits / temperature).max() < 0.2
    assert np.abs(logits / temperature).max(axis=1).min() > 0.05


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(poison: float) -> None:
    given_so = np.zeros((4, 3))
    given_so[2, 1] = poison
    assert np.isnan(tempered_losses(given_so, np.zeros(4, np.int32))).all()


def test_many_logits_get_the_temperature_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(500, 7)).astype(np.float32)
    labels = rng.integers(0, 7, 500)
    whole = tempered(logits, labels)
    monkeypatch.setattr("graftline.training.temperature._WHOLE_LOGITS", 0)
    monkeypatch.setattr("graftline.training.temperature._BLOCK_LOGITS", 100)
    blocks = tempered(logits, labels)
    assert blocks.temperature == pytest.approx(whole.temperature, rel=1e-5)
    assert blocks.losses == pytest.approx(whole.losses, rel=1e-5)
    assert tempered(np.ones((9, 3), np.float32), labels[:9] % 3).temperature == 1
