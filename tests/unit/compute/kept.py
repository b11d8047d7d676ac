"""A cluster that ``graftline cluster`` keeps for a test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graftline.compute.own_cluster import Served, served

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def kept_cluster(root: Path) -> Iterator[Served]:
    """Two workers; what they start finds the tests' modules."""
    command = [sys.executable, "-m", "graftline", "-C", str(root), "cluster", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 90
            while (told := served(root)) is None:
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.2)
            yield told
        finally:
            process.terminate()
