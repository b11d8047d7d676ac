"""The runner: how many images at once, in order, and the same whatever their number."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from graftline.network.runners import pieces
from graftline.network.runners.litert import LiteRunner

MODEL = Path(__file__).resolve().parents[2] / "data" / "brightness.tflite"
MIB = 1 << 20


@pytest.mark.parametrize(
    ("map_bytes", "batch"),
    [(0, 8), (MIB // 2, 8), (MIB, 7), (2 * MIB, 3), (4 * MIB, 1), (100 * MIB, 1)],
)
def test_the_largest_maps_of_a_batch_fit_the_cache(map_bytes: int, batch: int) -> None:
    assert pieces.piece_images(map_bytes) == batch


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 9, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_the_size_of_a_batch_changes_no_bit(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with LiteRunner(MODEL, workers=2) as runner:
        expected = runner.run(images(19))
    monkeypatch.setattr(pieces, "_MICRO_BATCH", batch)
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


WRITES = """
import os, sys, threading
from pathlib import Path
import numpy as np
from graftline.network.runners.litert import LiteRunner
over = threading.Event()
def write():
    number = 0
    while not over.is_set():
        os.write(2, f"line {number}\\n".encode())
        number += 1
    print(number)
thread = threading.Thread(target=write)
with LiteRunner(Path(sys.argv[1]), workers=2) as runner:
    thread.start()
    for size in range(1, 40):
        runner.run(np.zeros((3, size, 7, 3), np.uint8))
over.set()
thread.join()
"""
DIES = """
import ctypes, sys
from pathlib import Path
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from graftline.network.runners.litert import LiteRunner
def die(self):
    ctypes.CDLL(None).__assert_fail(b"the last words", b"native.cc", 7, b"allocate")
Interpreter.allocate_tensors = die
LiteRunner(Path(sys.argv[1]), workers=1).run(np.zeros((3, 9, 7, 3), np.uint8))
"""


def ended(code: str, level: str) -> subprocess.CompletedProcess[str]:
    """A process that runs ``code`` with TensorFlow's messages as quiet as ``level`` says."""
    command = ["env", f"TF_CPP_MIN_LOG_LEVEL={level}", sys.executable, "-c", code, str(MODEL)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_no_line_of_another_thread_is_lost_while_shapes_change() -> None:
    done = ended(WRITES, "2")
    assert done.returncode == 0, done.stderr
    told = re.findall(r"line (\d+)", done.stderr)
    assert told == [str(number) for number in range(int(done.stdout))]


def test_the_last_words_of_native_code_that_dies_are_seen() -> None:
    done = ended(DIES, "2")
    assert done.returncode == -6
    assert "the last words" in done.stderr
