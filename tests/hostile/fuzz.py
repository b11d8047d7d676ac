"""The properties for as long as one likes: ``python -m tests.hostile.fuzz``, or ``make fuzz``.

Every run begins with other random numbers. What is found is told with the case that shows it, made
as small as possible; it belongs into an ``example`` of test_never_a_traceback.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from tests.hostile import strategies
from tests.hostile.case import Case
from tests.hostile.checked import QUICK, TALLIES, check

_AT_ONCE = 100
_WEIGHTS_PX, _ALPHA = 32, 0.35


def _cases(door: str) -> SearchStrategy[Case]:
    if door != "weights":
        made: Callable[[], SearchStrategy[Case]] = getattr(strategies, f"{door}_cases")
        return made()
    from graftline.network.cutting import build_base

    backbone = build_base(_WEIGHTS_PX, _ALPHA, 0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sound.weights.h5")
        backbone.save_weights(path)
        data = path.read_bytes()
    return strategies.weights_cases([("a.weights.h5", data), ("a.h5", data)])


def explored(door: str, seconds: float) -> bool:
    """Tries a door's cases for so long; False when one of them was a fault."""
    cases = _cases(door)
    until = time.monotonic() + seconds

    @settings(
        max_examples=_AT_ONCE, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(cases)
    def holds(case: Case) -> None:
        check(case)

    while time.monotonic() < until:
        try:
            holds()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            traceback.print_exc()
            return False
    return True


def main(arguments: list[str]) -> int:
    """Tries the doors in turn; 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__)
    parser.add_argument("doors", nargs="*", metavar="DOOR", help=", ".join((*QUICK, "weights")))
    parser.add_argument("--seconds", type=float, default=60.0, help="for each door (default: 60)")
    options = parser.parse_args(arguments)
    sound = True
    for door in options.doors or (*QUICK, "weights"):
        good = explored(door, options.seconds)
        sound = sound and good
        tally = TALLIES[door]
        counts = ", ".join(f"{count} {verdict}" for verdict, count in tally.verdicts.items())
        sys.stdout.write(
            f"{door:<9} {'held' if good else 'FAULT'}: {sum(tally.verdicts.values())} cases "
            f"({counts}), slowest {tally.slowest_s:.2f} s, most memory "
            f"{tally.grown_bytes / 2**20:.0f} MiB\n"
        )
        sys.stdout.flush()
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
