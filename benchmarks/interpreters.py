"""How to spread LiteRT over the cores: interpreters side by side, threads in each, batch size.

Run with ``python -m benchmarks.interpreters``. Every way runs the same frozen backbone on the same
images, in turn, several rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.backbones import build_backbone
from graftline.compute.cores import available_cores


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-px", type=int, default=96)
    parser.add_argument("--cut", default="block_13_expand_relu")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (options.images, 28, 28, 1), dtype=np.uint8)
    cores = available_cores()
    with tempfile.TemporaryDirectory() as folder:
        path = build_backbone(options.size_px, 1.0, options.cut, Path(folder)).litert_file
        ways = [
            _Way(path, count, threads, batch, images)
            for batch in (1, 4, 8, 16, 32)
            for count, threads in ((1, cores), (cores, 1))
        ]
        rates: dict[_Way, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way in ways:
                rates[way].append(way.images_per_second())
    _show(options, rates)


class _Way:
    """One arrangement of interpreters."""

    def __init__(self, path: Path, count: int, threads: int, batch: int, images: Any) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.count, self.threads, self.batch, self._images = count, threads, batch, images
        self._interpreters = [Interpreter(str(path), num_threads=threads) for _ in range(count)]
        for interpreter in self._interpreters:
            place = interpreter.get_input_details()[0]["index"]
            interpreter.resize_tensor_input(place, (batch, *images.shape[1:]))
            interpreter.allocate_tensors()

    def images_per_second(self) -> float:
        """One pass over the images."""
        parts = np.array_split(self._images, self.count)
        started_s = time.perf_counter()
        with ThreadPoolExecutor(self.count) as pool:
            list(pool.map(self._run, self._interpreters, parts))
        return len(self._images) / (time.perf_counter() - started_s)

    def _run(self, interpreter: Any, images: Any) -> None:
        place = interpreter.get_input_details()[0]["index"]
        for at in range(0, len(images) - self.batch + 1, self.batch):
            interpreter.set_tensor(place, images[at : at + self.batch])
            interpreter.invoke()
            interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def _show(options: argparse.Namespace, rates: dict[_Way, list[float]]) -> None:
    table = Table(title=f"LiteRT to {options.cut} at {options.size_px} px, images per second")
    for column in ("interpreters", "threads in each", "batch", "median", "lowest", "highest"):
        table.add_column(column, justify="right")
    for way, found in rates.items():
        table.add_row(
            str(way.count),
            str(way.threads),
            str(way.batch),
            f"{statistics.median(found):.0f}",
            f"{min(found):.0f}",
            f"{max(found):.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
