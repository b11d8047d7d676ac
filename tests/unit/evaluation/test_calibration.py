"""Calibration: exact small cases, and what holds for any predictions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftline.evaluation.calibration import reliability

predictions = st.lists(
    st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=200
).map(lambda pairs: (np.array([c for c, _ in pairs]), np.array([r for _, r in pairs])))
bin_counts = st.integers(2, 100)


def test_a_case_done_by_hand() -> None:
    # Two bins: {0.4 wrong, 0.2 right} and {0.9 right, 0.7 wrong}.
    table = reliability(np.array([0.4, 0.9, 0.2, 0.7]), np.array([False, True, True, False]), 2)
    assert table.images.tolist() == [2, 2]
    assert table.confidence.tolist() == pytest.approx([0.3, 0.8])
    assert table.accuracy.tolist() == [0.5, 0.5]
    assert table.expected_error == pytest.approx((0.2 + 0.3) / 2)
    assert table.overconfidence == pytest.approx((-0.2 + 0.3) / 2)
    assert table.edges.tolist() == [0, 0.5, 1]


def test_a_border_belongs_to_the_bin_below_it() -> None:
    table = reliability(np.array([0.0, 0.25, 0.5, 1.0]), np.ones(4, bool), 4)
    assert table.images.tolist() == [2, 1, 0, 1]
    assert np.isnan(table.confidence[2])
    assert np.isnan(table.accuracy[2])


def test_sure_and_right_is_perfect_and_sure_and_wrong_the_worst() -> None:
    assert reliability(np.ones(7), np.ones(7, bool), 10).expected_error == 0
    assert reliability(np.ones(7), np.zeros(7, bool), 10).expected_error == 1


@given(share=st.integers(1, 20), bins=bin_counts)
def test_confidence_that_comes_true_has_no_error(share: int, bins: int) -> None:
    right = np.arange(20) < share
    assert reliability(np.full(20, share / 20), right, bins).expected_error == pytest.approx(0)


@given(predictions, bin_counts)
def test_the_error_lies_between_0_and_1(made: tuple[np.ndarray, np.ndarray], bins: int) -> None:
    table = reliability(*made, bins)
    assert 0 <= table.expected_error <= 1
    assert table.images.sum() == len(made[0])
    # By the triangle inequality, the mean of gaps is no less than the gap of means.
    assert table.expected_error >= abs(table.overconfidence) - 1e-12


@given(predictions, bin_counts, st.randoms(use_true_random=False))
def test_the_order_of_predictions_does_not_matter(made, bins, random) -> None:  # type: ignore[no-untyped-def]
    confidence, right = made
    order = random.sample(range(len(right)), len(right))
    assert reliability(confidence[order], right[order], bins).expected_error == pytest.approx(
        reliability(confidence, right, bins).expected_error
    )


@pytest.mark.parametrize(
    ("confidence", "right"),
    [([], []), ([0.5, 0.5], [True]), ([1.1], [True]), ([-0.1], [True]), ([float("nan")], [True])],
)
def test_what_is_no_confidence_is_refused(confidence: list[float], right: list[bool]) -> None:
    with pytest.raises(ValueError, match=r"confidence"):
        reliability(np.array(confidence), np.array(right, bool), 5)
