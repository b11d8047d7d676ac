"""The property itself: accepted or refused, in bounded time and memory, never a fault."""

from __future__ import annotations

import atexit
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

from tests.hostile.case import Case
from tests.hostile.child import MEMORY_BYTES, Child

QUICK = ("image", "folder", "idx", "npz", "manifest", "params", "command", "hdf5")
"""The doors that need no TensorFlow."""


@dataclass
class Tally:
    """What the cases of one door came to."""

    verdicts: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    grown_bytes: int = 0


TALLIES: dict[str, Tally] = {}


def check(case: Case) -> str:
    """Puts a case before the product, and returns what it said."""
    outcome = _child(case.door in QUICK).run(case)
    tally = TALLIES.setdefault(case.door, Tally())
    tally.verdicts[outcome.verdict] += 1
    tally.slowest_s = max(tally.slowest_s, outcome.seconds)
    tally.grown_bytes = max(tally.grown_bytes, outcome.grown_bytes)
    assert outcome.verdict != "fault", outcome.said
    assert outcome.grown_bytes < MEMORY_BYTES, f"grew by {outcome.grown_bytes >> 20} MiB"
    assert "\x1b" not in outcome.said
    return outcome.said


@cache
def _child(quick: bool) -> Child:
    child = Child(*(QUICK if quick else ("weights",)))
    atexit.register(child.close)
    return child
