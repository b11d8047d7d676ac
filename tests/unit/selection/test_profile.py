"""The probe learns what can be learnt, from other images alone; the profile says where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from graftline.selection import profile as profile_module
from graftline.selection.data_regime import gain_of_doubling, learning_slope, situation_of
from graftline.selection.depths import Depth
from graftline.selection.folds import dealt_folds
from graftline.selection.probe import out_of_fold
from graftline.selection.profile import DepthScore, Profile, make_profile

COUNT = 240
LABELS = np.arange(COUNT) % 3
FOLDS = dealt_folds(LABELS)


def clouds(distance: float, width: int = 8, seed: int = 0) -> NDArray[np.float32]:
    """Three normal clouds at corners so far apart."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(COUNT, width))
    values[np.arange(COUNT), LABELS] += distance
    return values.astype(np.float32)


def rings(seed: int = 0) -> NDArray[np.float32]:
    """Classes by radius, which no linear probe tells apart."""
    random = np.random.default_rng(seed)
    angle = random.uniform(0, 2 * np.pi, COUNT)
    radius = 1 + LABELS + random.normal(0, 0.1, COUNT)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)


def accuracy(features: NDArray[np.float32], labels: NDArray[np.int64] = LABELS) -> float:
    return float((out_of_fold(features, labels, FOLDS, 0) == labels).mean())


def test_the_probe_tells_apart_what_differs() -> None:
    assert accuracy(clouds(6)) > 0.97
    assert accuracy(clouds(1.5)) < accuracy(clouds(3)) < accuracy(clouds(6))


def test_the_probe_is_not_linear() -> None:
    # Half of the images is what a straight line could get right here.
    assert accuracy(rings()) > 0.7


def test_the_probe_does_not_see_the_images_that_it_answers() -> None:
    shuffled = np.random.default_rng(1).permutation(LABELS)
    # A wide layer fits any labels; out of fold that is worth nothing.
    assert accuracy(clouds(0, width=300), shuffled) < 0.45


@pytest.mark.parametrize("width", [3, 700])
@pytest.mark.parametrize("change", [lambda one: one * 1000, lambda one: one + 50, lambda one: -one])
def test_an_answer_does_not_depend_on_other_held_out_images(
    width: int, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    # Fewer and more units than images: both ways to solve the regression.
    features = clouds(1.2, width)
    given = out_of_fold(features, LABELS, FOLDS, 0)
    for fold in (0, 3):
        held_out = np.flatnonzero(FOLDS == fold)
        asked, others = held_out[:5], held_out[5:]
        changed, labels = features.copy(), LABELS.copy()
        changed[others] = change(changed[others])
        labels[others] = (labels[others] + 1) % 3
        answers = out_of_fold(changed, labels, FOLDS, 0)
        assert (answers[asked] == given[asked]).all()


@pytest.mark.parametrize("width", [8, 700])
def test_fewer_images_teach_less(width: int) -> None:
    features = clouds(2.5, width)
    few = (out_of_fold(features, LABELS, FOLDS, 0, most=0.06) == LABELS).mean()
    assert few < accuracy(features)


def depth(name: str, cost: int) -> Depth:
    return Depth(layer=name, block=name, features=8, side_px=4, multiply_adds=cost)


@pytest.fixture(scope="module")
def profile() -> Profile:
    depths = [depth("early", 10), depth("near", 20), depth("best", 30), depth("last", 40)]
    features = [clouds(0.5), clouds(4.0, seed=2), clouds(4.2, seed=2), clouds(1.5)]
    return make_profile(depths, features, LABELS, FOLDS, 0)


def test_the_cheapest_depth_as_good_as_the_best_is_found(profile: Profile) -> None:
    assert profile.best.layer in ("near", "best")
    assert profile.cheapest.layer == "near"
    assert profile.scores[0].p_value < 0.001
    assert profile.best.p_value >= 0.5


def test_the_numbers_follow_from_the_answers(profile: Profile) -> None:
    for at, score in enumerate(profile.scores):
        assert score.right == (profile.answers[at] == LABELS).sum()
        assert score.accuracy == score.right / COUNT


def test_a_profile_that_falls_means_different_data(profile: Profile) -> None:
    situation = situation_of(profile, LABELS, COUNT, 3)
    assert situation.different
    assert situation.small, "80 images of a class are few"
    large = situation_of(profile, LABELS, 30_000, 3)
    assert large.gain_of_doubling < situation.gain_of_doubling
    assert large.words == "large and different"


def test_a_profile_that_rises_to_the_end_means_similar_data() -> None:
    depths = [depth("early", 10), depth("last", 20)]
    rising = make_profile(depths, [clouds(1), clouds(6)], LABELS, FOLDS, 0)
    assert not situation_of(rising, LABELS, COUNT, 3).different


def test_the_slope_is_that_of_the_mean_accuracies() -> None:
    right = np.array([[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]], bool)
    slope, error = learning_slope(right)
    assert slope == pytest.approx(0.25)
    assert error > 0


def test_more_images_never_promise_a_loss(profile: Profile) -> None:
    assert gain_of_doubling(profile, COUNT) >= 0


def score(layer: str, cost: int, right: int) -> DepthScore:
    return DepthScore(
        layer=layer,
        block=layer,
        features=8,
        side_px=4,
        multiply_adds=cost,
        right=right,
        accuracy=right / 100,
        standard_error=0.03,
        behind=(93 - right) / 100,
        behind_error=0.02,
        p_value=1.0,
    )


def profile_of(*scores: DepthScore) -> Profile:
    nothing = np.empty((0, 0), np.int64)
    return Profile(scores, (), nothing, nothing)


def test_of_depths_that_cost_about_the_same_the_better_is_taken() -> None:
    far, near = score("far", 20, 80), score("near", 100, 92)
    assert profile_of(far, near, score("best", 120, 93)).cheapest.layer == "best"
    assert profile_of(far, near, score("best", 130, 93)).cheapest.layer == "near"


def test_what_is_tuned_is_cut_at_the_latest_depth_that_costs_about_the_same() -> None:
    near, as_cheap = score("near", 100, 92), score("as cheap", 124, 70)
    assert profile_of(near, as_cheap, score("last", 126, 60)).as_cheap_tuned.layer == "as cheap"
    assert profile_of(near, score("last", 126, 60)).as_cheap_tuned.layer == "near"
    best = score("best", 120, 93)
    found = profile_of(near, best, score("last", 140, 60))
    assert found.cheapest.layer == found.as_cheap_tuned.layer == "best", "a quarter, not twice"


def test_the_later_cut_is_the_latest_that_is_as_good_frozen() -> None:
    early, near, worse = score("early", 50, 93), score("near", 100, 92), score("worse", 110, 80)
    cuts = profile_of(early, near, worse).cuts
    assert (cuts.frozen, cuts.tuned, cuts.later, cuts.best) == ("early", "early", "near", "early")
    as_cheap = score("as cheap", 60, 80)
    assert profile_of(early, as_cheap, worse).cuts.later == "as cheap", "nothing is cut before it"


def test_what_the_probes_answered_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    depths, features = [depth("only", 10)], [clouds(2)]
    first = make_profile(depths, features, LABELS, FOLDS, 0, tmp_path / "profile.npz")
    monkeypatch.delattr(profile_module, "out_of_fold")
    again = make_profile(depths, features, LABELS, FOLDS, 0, tmp_path / "profile.npz")
    assert again.scores == first.scores
    assert again.curve == first.curve
