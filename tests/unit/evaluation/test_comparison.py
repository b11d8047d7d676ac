from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from graftline.evaluation.answers import Answers, TestSplit
from graftline.evaluation.comparison import compare, difference_interval

NAMES = np.array(["cat", "dog"], object)


def answers(right: list[bool], labels: list[int] | None = None) -> Answers:
    indices = np.array(labels if labels is not None else [0] * len(right))
    hashes = np.array([f"image {number}" for number in range(len(right))], object)
    predicted = np.where(right, indices, 1 - indices)
    return Answers(TestSplit(hashes, NAMES[indices]), NAMES[predicted])


def test_the_figures_are_those_of_the_images_that_only_one_gets_right() -> None:
    challenger = answers([True] * 6 + [False] + [True] * 3)
    champion = answers([False] * 6 + [True] + [True] * 3)

    found = compare(challenger, champion, 0.05, seed=0)

    assert found.paired is not None
    assert (found.paired.only_challenger_right, found.paired.only_champion_right) == (6, 1)
    assert found.paired.difference == pytest.approx(0.5)
    assert found.challenger_accuracy == pytest.approx(0.9)
    assert found.paired.champion_accuracy == pytest.approx(0.4)
    # By hand: 8 of the 128 ways in which 7 coins fall show 6 heads or more.
    assert found.paired.p_better == pytest.approx(8 / 128)
    assert found.paired.p_worse == pytest.approx(127 / 128)
    assert found.paired.confidence == pytest.approx(0.9)


def test_recalls_are_of_each_class() -> None:
    labels = [0, 0, 0, 0, 1, 1]
    challenger = answers([True, True, True, False, True, False], labels)
    champion = answers([True, True, True, True, False, False], labels)

    classes = compare(challenger, champion, 0.05, seed=0).classes

    assert {name: one.images for name, one in classes.items()} == {"cat": 4, "dog": 2}
    assert (classes["cat"].challenger, classes["cat"].champion) == (0.75, 1.0)
    assert classes["cat"].drop == pytest.approx(0.25)
    assert classes["dog"].drop == pytest.approx(-0.5)


def test_a_class_may_be_named_with_any_character() -> None:
    labels = np.array(["a\0", "a", "\0", ""], object)
    split = TestSplit(np.array(["1", "2", "3", "4"], object), labels)
    found = compare(Answers(split, labels), None, None, 0, most_frequent="\0")
    assert {name: one.images for name, one in found.classes.items()} == dict.fromkeys(labels, 1)
    assert found.baseline is not None and found.baseline.accuracy == 0.25


def test_the_images_that_count_decide_between_two_and_the_rest_for_the_floor() -> None:
    challenger = answers([True, True, False, False], [0, 0, 0, 1])
    champion = answers([True, False, True, True], [0, 0, 0, 1])
    counted = np.array([True, True, False, False])

    found = compare(challenger, champion, 0.05, 0, counted=counted, most_frequent="cat")

    assert (found.images, found.challenger_accuracy) == (4, 0.5)
    assert found.challenger_balanced_accuracy == pytest.approx((2 / 3 + 0) / 2)
    assert found.paired is not None
    assert (found.paired.images, found.paired.difference) == (2, 0.5)
    assert (found.classes["cat"].images, found.missing) == (2, ("dog",))
    assert found.baseline is not None
    assert (found.baseline.accuracy, found.baseline.others) == (0.75, 1)


def test_without_a_champion_or_a_level_nothing_is_tested() -> None:
    one = answers([True, False])
    assert compare(one, None, 0.05, 0).paired is None
    assert compare(one, one, None, 0).paired is None


def test_other_images_or_labels_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different images"):
        compare(answers([True, True]), answers([True]), 0.05, 0)
    with pytest.raises(ValueError, match="different images"):
        compare(answers([True], [0]), answers([True], [1]), 0.05, 0)


def test_the_interval_is_the_same_for_a_seed_and_that_of_theory() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.random(2000) < 0.9, rng.random(2000) < 0.88

    low, high = difference_interval(one, other, 0.9, seed=3)

    assert (low, high) == difference_interval(one, other, 0.9, seed=3)
    differences = one.astype(float) - other.astype(float)
    error = differences.std() / np.sqrt(2000)
    assert low == pytest.approx(differences.mean() - 1.645 * error, abs=0.15 * error)
    assert high == pytest.approx(differences.mean() + 1.645 * error, abs=0.15 * error)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_whatever_the_answers_the_two_sides_mirror_each_other(
    pairs: list[tuple[bool, bool]],
) -> None:
    one, other = (answers([pair[side] for pair in pairs]) for side in (0, 1))
    there = compare(one, other, 0.1, 0).paired
    back = compare(other, one, 0.1, 0).paired
    assert there is not None and back is not None
    assert there.difference == pytest.approx(-back.difference)
    assert there.p_better == back.p_worse
    assert there.difference_low <= there.difference + 1e-9
    assert there.difference <= there.difference_high + 1e-9
    only = there.only_challenger_right, there.only_champion_right
    if sum(only):
        assert there.p_better == pytest.approx(
            binomtest(only[0], sum(only), alternative="greater").pvalue
        )
