"""The runner: how many images at once, in order, and the same whatever their number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from graftline.litert import LiteRunner, batch_within

MODEL = Path(__file__).resolve().parents[1] / "data" / "brightness.tflite"
MIB = 1 << 20


@pytest.mark.parametrize(
    ("map_bytes", "batch"),
    [(0, 8), (MIB // 2, 8), (MIB, 7), (2 * MIB, 3), (4 * MIB, 1), (100 * MIB, 1)],
)
def test_the_largest_maps_of_a_batch_fit_the_cache(map_bytes: int, batch: int) -> None:
    assert batch_within(7 * MIB, map_bytes) == batch


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 9, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_the_size_of_a_batch_changes_no_bit(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with LiteRunner(MODEL, workers=2) as runner:
        expected = runner.run(images(19))
    monkeypatch.setattr("graftline.litert._MICRO_BATCH", batch)
    with LiteRunner(MODEL, workers=2) as runner:
        assert runner.run(images(19)).tobytes() == expected.tobytes()


def test_batches_come_back_in_their_order() -> None:
    sizes = [5, 1, 19, 8, 2, 30]
    whole = images(sum(sizes))
    with LiteRunner(MODEL, workers=2) as runner:
        parts = list(runner.run_all(iter(np.split(whole, np.cumsum(sizes)[:-1]))))
        assert [len(part) for part in parts] == sizes
        assert np.concatenate(parts).tobytes() == runner.run(whole).tobytes()


def test_no_more_batches_are_read_than_are_allowed_ahead() -> None:
    read = []

    def batches() -> Iterator[np.ndarray]:
        for number in range(8):
            read.append(number)
            yield images(4)

    with LiteRunner(MODEL, workers=1) as runner:
        results = runner.run_all(batches(), ahead=2)
        next(results)
        assert len(read) <= 3
        assert len(list(results)) == 7
