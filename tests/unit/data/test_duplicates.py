from __future__ import annotations

from graftline.data.duplicates import Placed, Stored, described, found


def placed(name, content, *, label="a", given=None, split="train"):
    return Placed(Stored(name, label, given, content, "raw", (0, 0, 1), (1, 1, 1)), split)


def test_nothing_occurs_twice():
    repeats = found([placed("x", "1"), placed("y", "2")])
    assert (repeats.duplicates, repeats.leaks, repeats.conflicts) == (0, [], [])


def test_copies_count_without_the_first():
    repeats = found([placed("x", "1"), placed("y", "1"), placed("z", "1")])
    assert repeats.duplicates == 2
    assert not repeats.leaks and not repeats.conflicts


def test_a_leak_is_between_given_splits_and_counts_once():
    group = [
        placed("x", "1", given="train"),
        placed("y", "1", given="train"),
        placed("z", "1", given="test", split="test"),
    ]
    repeats = found([*group, placed("other", "2", given="test", split="test")])
    assert repeats.leaks == [group]
    assert repeats.duplicates == 2


def test_a_conflict_is_between_labels():
    group = [placed("x", "1", label="cat"), placed("y", "1", label="dog")]
    repeats = found(group)
    assert repeats.conflicts == [group]
    assert repeats.leaks == []
    assert described(group) == "x (cat, train) = y (dog, train)"
