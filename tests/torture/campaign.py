"""Many lives, one after the other in one checkout, each killed at a moment drawn by lot."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from graftline.core.errors import InterruptedExperimentError
from graftline.core.stages import STAGES
from graftline.operations.dvc_exp_guard import refuse_after_interrupted
from tests.flows import tiny
from tests.torture.audit import Check, Results, checks, differences
from tests.torture.lives import CLOSING, REGISTER, ROWS, STARTING, Door, Life, Moment
from tests.torture.place import Place
from tests.torture.processes import REACHES, Reach

_DOORS: dict[Door, float] = {"flow": 3.0, "dvc repro": 3.0, "dvc exp run": 2.0, "one step": 2.0}
_LEFT_TO_FINISH = 0.12
_REFUSED_LIMIT_S = 900.0
_REFUSED_WAIT_S = 1.0
Spans = dict[Door, dict[str, float]]


@dataclass(frozen=True)
class Kill:
    """One kill: where it was aimed at, and what it hit."""

    door: Door
    row: str
    at_work: bool
    reach: Reach


@dataclass
class Campaign:
    """Tortures a place.

    Args:
        place: Where.
        kills: How many times.
        seed: Of all that is left to chance.
        say: Told each life's fate.
    """

    place: Place
    kills: int
    seed: int
    say: Callable[[str], None]
    done: list[Kill] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    finished: int = 0
    refused: int = 0
    mended: int = 0
    """How often a killed experiment's changes were brought back, as the error told to."""
    _number: int = 0

    def run(self) -> list[Check]:
        """Everything: the undisturbed runs, the torture, and what must hold at the end.

        Returns:
            The last audit; losses met on the way are in :attr:`losses`.
        """
        self._chance = random.Random(self.seed)
        self.place.make_stale(wipe=False)
        expected, spans = self._undisturbed()
        audit: list[Check] = []
        # Each era begins as a fresh clone does: no history, no database, no cache, no outputs.
        for kills in (self.kills // 2, self.kills):
            self.say("a fresh clone: no outputs, no cache, no histories")
            self.place.make_stale(wipe=True)
            while len(self.done) < kills:
                self._round(kills, expected, spans)
            self._finish("flow")
            audit = list(checks(self.place, expected))
            self.losses += [f"{one.title}: {wrong}" for one in audit for wrong in one.wrong]
        return audit

    def _undisturbed(self) -> tuple[Results, Spans]:
        flow = self._finish("flow")
        expected = Results.of(self.place)
        self.place.make_stale(wipe=False)
        repro = self._finish("dvc repro")
        self.losses += differences(Results.of(self.place), expected)
        spans = {"flow": flow, "dvc repro": repro, "dvc exp run": repro, "one step": repro}
        for door, parts in spans.items():
            shown = ", ".join(f"{row} {seconds:.1f}" for row, seconds in parts.items())
            if door in ("flow", "dvc repro"):
                self.say(f"undisturbed by {door}, seconds: {shown}")
        return expected, spans

    def _finish(self, door: Door) -> dict[str, float]:
        until = time.monotonic() + _REFUSED_LIMIT_S
        while True:
            life = self._begin(door, None)
            life.run_until(None)
            if life.process.returncode == 0:
                self.finished += 1
                return _spans(life)
            if self._mended():
                continue
            if not life.refused or time.monotonic() > until:
                raise RuntimeError(f"an undisturbed run failed; see {life.output}\n{life.said}")
            self.refused += 1
            time.sleep(_REFUSED_WAIT_S)

    def _round(self, kills: int, expected: Results, spans: Spans) -> None:
        """Lives until one has come to the end of the pipeline, or enough have been killed."""
        self.place.make_stale(wipe=False)
        refused_since: float | None = None
        while len(self.done) < kills:
            door = self._door()
            rest = [stage for stage in STAGES if stage not in self.place.done()]
            if door == "one step" and not rest:
                continue
            life = self._begin(door, rest[0] if door == "one step" else None)
            moment = self._moment(door, rest, spans)
            if life.run_until(moment):
                self._kill(life, moment)
            elif life.refused:
                self.refused += 1
                refused_since = refused_since or time.monotonic()
                if time.monotonic() > refused_since + _REFUSED_LIMIT_S:
                    raise RuntimeError(f"everything is refused for ever; see {life.output}")
                time.sleep(_REFUSED_WAIT_S)
                continue
            elif life.process.returncode and self._mended():
                self.say(f"{life.number:4}  {door:<11}  went on after what the error told to do")
            elif life.process.returncode:
                self._lose(life)
            else:
                self.finished += 1
                self.say(f"{life.number:4}  {door:<11}  came to its end")
                if not set(STAGES) - set(self.place.done()):
                    wrong = differences(Results.of(self.place), expected)
                    self.losses += [f"after life {life.number}: {one}" for one in wrong]
                    if door == "flow" or self._chance.random() < 0.5:
                        return
            refused_since = None

    def _mended(self) -> bool:
        """Does what the error after a killed experiment says, if there is one."""
        try:
            refuse_after_interrupted(self.place.workspace)
        except InterruptedExperimentError as error:
            commands = (error.fix or "").removesuffix(", and run again").split(" && ")
            for command in commands:
                tiny.sh(self.place.root, *command.split())
            self.mended += 1
            return True
        return False

    def _begin(self, door: Door, step: str | None) -> Life:
        self._number += 1
        return Life(self.place, door, step, self._number)

    def _door(self) -> Door:
        return self._chance.choices(list(_DOORS), list(_DOORS.values()))[0]

    def _moment(self, door: Door, rest: list[str], spans: Spans) -> Moment | None:
        if self._chance.random() < _LEFT_TO_FINISH:
            return None
        ahead = [STARTING, *(rest[:1] if door == "one step" else rest)]
        ahead += [REGISTER] if door == "flow" else []
        ahead += [CLOSING] if door == "flow" or rest else []
        killed = Counter(kill.row for kill in self.done)
        # Where there have been few, but rather soon than late: the way there costs time.
        row = min(
            ahead,
            key=lambda row: killed[row] + 0.3 * ahead.index(row) + self._chance.uniform(0, 1.5),
        )
        return Moment(row, self._chance.uniform(0, spans[door].get(row, 1.0)))

    def _kill(self, life: Life, moment: Moment | None) -> None:
        reach = self._chance.choice(REACHES)
        kill = Kill(life.door, life.row, life.at_work, reach)
        count = life.kill(reach)
        self.done.append(kill)
        what = f"{life.step} alone" if life.step else ""
        self.say(
            f"{life.number:4}  {life.door:<11}  kill {len(self.done):3} in {kill.row:<10} "
            f"(aimed at {moment}); {reach}, {count} processes {what}"
        )
        time.sleep(self._chance.choice((0, 0, self._chance.uniform(0, 1))))

    def _lose(self, life: Life) -> None:
        last = [line for line in life.said.splitlines() if line.strip()][-3:]
        text = f"life {life.number} by {life.door} failed ({life.process.returncode}): {last}"
        self.losses.append(text)
        self.say(text)


def _spans(life: Life) -> dict[str, float]:
    """How long each part of a finished life took, in seconds."""
    ended_s = time.monotonic() - life.started_s
    rows = [row for row in ROWS if row in life.beginnings]
    begun = [life.beginnings[row] for row in rows]
    return {
        row: max(after - at, 0.0)
        for row, at, after in zip(rows, begun, [*begun[1:], ended_s], strict=True)
    }
