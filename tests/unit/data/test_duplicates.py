from __future__ import annotations

import numpy as np

from graftline.data.duplicates import Repeats, found


def repeats(contents, *, labels=None, given=None) -> Repeats:
    count = len(contents)
    return found(
        np.array(list(contents), np.bytes_),
        np.array(given or [-1] * count, np.int8),
        np.array(labels or [0] * count, np.int32),
    )


def test_nothing_occurs_twice():
    assert repeats("xy") == Repeats(0, [], [])
    assert repeats("") == Repeats(0, [], [])


def test_copies_count_without_the_first():
    assert repeats("xxy") == Repeats(1, [], [])
    assert repeats("xxyyy") == Repeats(3, [], [])


def test_a_leak_is_between_given_splits_and_counts_once():
    assert repeats("yxxzx", given=[2, 0, 0, 0, 2]) == Repeats(2, [[1, 2, 4]], [])


def test_a_conflict_is_between_labels():
    assert repeats("yxyx", labels=[0, 0, 1, 1]) == Repeats(2, [], [[0, 2], [1, 3]])
