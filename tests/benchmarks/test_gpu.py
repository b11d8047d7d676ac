"""The measurement of a GPU keeps to its time, and a part that fails does not end the others."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks import gpu


def test_no_part_begins_when_the_time_is_up() -> None:
    parts = gpu._Parts(time.monotonic() + 3, ["--small"])
    assert parts.rows("auto", "cpu") == []
    assert parts.wanting == ["auto cpu: only 3 s were left"]


@pytest.mark.slow
def test_parts_are_processes_that_may_fail(tmp_path: Path) -> None:
    parts = gpu._Parts(time.monotonic() + 600, ["--small"])
    assert parts.rows("device")
    assert parts.rows("train", str(tmp_path)) == []
    [told] = parts.wanting
    assert told.startswith(f"train {tmp_path}: ended with 1")
    assert "assembled.json is not there yet" in told


@pytest.mark.slow
def test_as_many_images_as_a_round_has_time_for() -> None:
    taken: list[int] = []

    def work(images: object) -> None:
        taken.append(len(images))  # type: ignore[arg-type]
        time.sleep(len(images) / 2_000)  # type: ignore[arg-type]

    found = gpu._rates(gpu.SMALL, gpu.random_images(10_000, (1, 1, 1)), work)
    assert 200 < found.median < 2_001
    assert 40 < taken[-1] < 410
