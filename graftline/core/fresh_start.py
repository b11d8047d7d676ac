"""A process that has grown too large starts anew, and goes on from what it has kept.

TensorFlow keeps 40 to 140 MB of every network that was traced, also when nothing refers to it any
more, and no call gives them back. A stage that traces one network after the other keeps what it
has finished in files. So it may end at any moment, and go on under the same process number with
new memory.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping

import psutil

_LARGE_BYTES = 1_300_000_000
_LEAST_DONE = 4
"""Pieces of work that a process does at least: a new start costs some seconds."""
BEGUN_VARIABLE = "GRAFTLINE_STAGE_BEGUN_S"
"""Tells the process after a new start when the first one began, as ``time.monotonic`` counts."""
_allowed = False


class OvergrownError(Exception):
    """This process has grown large, and what it has finished is kept."""


def allow() -> None:
    """Called by the command line, whose process does nothing but its one command."""
    global _allowed
    _allowed = True


def refuse_overgrown(done: int) -> None:
    """Asks before the next piece of work whether this process should rather start anew.

    The result does not depend on the answer.

    Args:
        done: Pieces of work that this process has finished.

    Raises:
        OvergrownError: If it should, and may.
    """
    if _allowed and done >= _LEAST_DONE and psutil.Process().memory_info().rss > _LARGE_BYTES:
        raise OvergrownError


def start_anew(begun_s: float) -> None:
    """Runs this process's own command again in its place; it does not return.

    Args:
        begun_s: When the command began, as ``time.monotonic`` counts.
    """
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    environment: Mapping[str, str] = {**os.environ, BEGUN_VARIABLE: repr(begun_s)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def begun_s(otherwise: float) -> float:
    """When the command began whose process this one continues; ``otherwise`` if it is the first."""
    return float(os.environ.pop(BEGUN_VARIABLE, otherwise))
