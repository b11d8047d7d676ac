"""What the checksums of files cost each step, in seconds of the processors.

Run with ``python -m benchmarks.checksums FOLDER``, where FOLDER holds a ``params.yaml``. The steps
run there in this process, one after the other, and what hashing takes of each is counted.
"""

from __future__ import annotations

import argparse
import importlib
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import xxhash
from rich.console import Console
from rich.table import Table

from graftline.core import checksums
from graftline.core.params import read_params
from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace
from graftline.data import shards


class _Counter:
    """Adds up what hashing takes, on whatever thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._whole = checksums._checksum
        self.clear()

    def clear(self) -> None:
        self.seconds, self.size_bytes = 0.0, 0

    def add(self, since_s: float, size_bytes: int) -> None:
        seconds = time.thread_time() - since_s
        with self._lock:
            self.seconds += seconds
            self.size_bytes += size_bytes

    def read(self, path: Path) -> str:
        """In the place of what hashes a file that lies there."""
        since_s = time.thread_time()
        digest = self._whole(path)
        self.add(since_s, path.stat().st_size)
        return digest

    def writing(self) -> _Written:
        """In the place of what hashes shards while they are written."""
        return _Written(self)


class _Written:
    def __init__(self, counter: _Counter) -> None:
        self._counter, self._digest = counter, xxhash.xxh3_128()

    def update(self, payload: bytes | memoryview) -> None:
        since_s = time.thread_time()
        self._digest.update(payload)
        self._counter.add(since_s, len(payload))

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", nargs="+", default=STAGES)
    options = parser.parse_args()
    workspace = Workspace(options.folder.resolve())
    params = read_params(workspace.params_file)
    counter = _Counter()
    checksums._checksum = counter.read
    shards.xxhash = SimpleNamespace(xxh3_128=counter.writing)  # type: ignore[assignment]
    table = Table("step", "CPU s", "hashing s", "MB", "share")
    for name in options.steps:
        step = getattr(importlib.import_module(f"graftline.steps.{name}"), name)
        # As in a process of its own: nothing has been found whole before.
        checksums._known.clear()
        counter.clear()
        since_s = time.process_time()
        step(workspace, params)
        all_s = time.process_time() - since_s
        table.add_row(
            name,
            f"{all_s:.2f}",
            f"{counter.seconds:.3f}",
            f"{counter.size_bytes / 1e6:.0f}",
            f"{counter.seconds / all_s:.1%}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
