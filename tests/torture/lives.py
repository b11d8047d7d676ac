"""One life of the pipeline: begun by some door, watched, and killed at some moment or not."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from graftline.core.stages import STAGES
from tests.torture import processes
from tests.torture.place import Place

Door = Literal["flow", "dvc repro", "dvc exp run", "one step"]
DOORS: tuple[Door, ...] = ("flow", "dvc repro", "dvc exp run", "one step")
STARTING, REGISTER, CLOSING = "starting", "register", "closing"
ROWS = (STARTING, *STAGES, REGISTER, CLOSING)
"""The parts of a life, each from its own beginning to the next one's."""

_POLL_S = 0.004
_LIFE_LIMIT_S = 1800.0
_BUSY = ("is held by", "is busy", "Unable to acquire lock", "is at work in this checkout")


@dataclass(frozen=True)
class Moment:
    """When a life is to end: so long after the beginning of a part of it."""

    row: str
    after_s: float

    def __str__(self) -> str:
        return f"{self.row} + {self.after_s:.2f} s"


@dataclass
class Life:
    """A started pipeline.

    Args:
        place: Where.
        door: By which door.
        step: For the door ``one step``: which.
        number: Counts the lives.
    """

    place: Place
    door: Door
    step: str | None
    number: int
    beginnings: dict[str, float] = field(default_factory=dict)
    """When each part began, in seconds after the start."""

    def __post_init__(self) -> None:
        self.output = self.place.said / f"{self.number:03} {self.door.replace(' ', '-')}.txt"
        self._before = {stage: self._traces(stage) for stage in STAGES}
        self.started_s = time.monotonic()
        self.beginnings[STARTING] = 0.0
        self.process = self.place.started(self._command(), self.output)

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    @property
    def refused(self) -> bool:
        """Whether it ended since somebody else is at work, and said so."""
        said = self.said
        return bool(self.process.poll()) and any(words in said for words in _BUSY)

    def run_until(self, moment: Moment | None) -> bool:
        """Watches the life to its end, or until the moment has come.

        Returns:
            Whether the moment has come.
        """
        while self.process.poll() is None:
            now_s = time.monotonic() - self.started_s
            if now_s > _LIFE_LIMIT_S:
                processes.kill(self.process.pid, self.place.mark, "power cut")
                raise TimeoutError(f"life {self.number} hangs; see {self.output}")
            for row in self._begun():
                self.beginnings.setdefault(row, now_s)
            if moment and moment.row in self.beginnings:
                if now_s >= self.beginnings[moment.row] + moment.after_s:
                    return True
            time.sleep(_POLL_S)
        return False

    def kill(self, reach: processes.Reach) -> int:
        """Kills it; returns how many processes went."""
        count = processes.kill(self.process.pid, self.place.mark, reach)
        self.process.wait()
        processes.reap()
        return count

    @property
    def row(self) -> str:
        """The part that it has come to."""
        return max(self.beginnings, key=lambda row: (self.beginnings[row], ROWS.index(row)))

    @property
    def at_work(self) -> bool:
        """Whether a stage is at work, and not on its way in or out."""
        return any(self._lock(stage).exists() for stage in STAGES)

    def _command(self) -> list[str]:
        if self.door == "flow":
            return [sys.executable, "-m", "flows.train"]
        if self.door == "one step":
            return [sys.executable, "-m", "graftline", str(self.step)]
        return self.door.split()

    def _begun(self) -> Iterator[str]:
        for stage in STAGES:
            if stage not in self.beginnings and self._traces(stage) != self._before[stage]:
                yield stage
        if self.door == "flow":
            said = self.said if self.beginnings.keys() else ""
            if f"  {STAGES[-1]} " in said:
                yield REGISTER
            if "  register " in said:
                yield CLOSING
        elif self._timings(self.step or STAGES[-1]) != self._before[self.step or STAGES[-1]][1]:
            yield CLOSING

    def _traces(self, stage: str) -> tuple[int, int]:
        return _written(self._lock(stage)), self._timings(stage)

    def _timings(self, stage: str) -> int:
        return _written(self.place.workspace.var / "timings" / f"{stage}.json")

    def _lock(self, stage: str) -> Path:
        return self.place.workspace.var / "locks" / f"{stage}.json"


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
