from __future__ import annotations

import threading
import time

import pytest

from graftline.compute.cores import available_cores
from graftline.compute.parallel import ordered_map


def test_the_order_is_kept():
    def slow_at_first(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0)
        return number

    assert list(ordered_map(slow_at_first, range(100))) == list(range(100))


def test_nothing_to_do():
    assert list(ordered_map(str, [])) == []


def test_few_items_are_under_way():
    taken = 0

    def items():
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    results = ordered_map(str, items())
    next(results)
    assert taken <= 2 * available_cores()
    results.close()
    assert taken <= 2 * available_cores()


def test_an_error_comes_through_and_stops_the_rest():
    seen = []

    def fail(number: int) -> int:
        seen.append(number)
        if number == 3:
            raise ValueError("three")
        return number

    with pytest.raises(ValueError, match="three"):
        list(ordered_map(fail, range(10_000)))
    assert len(seen) < 100


def test_no_thread_is_left():
    before = threading.active_count()
    list(ordered_map(str, range(10)))
    assert threading.active_count() == before
