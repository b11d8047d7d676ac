"""Many lives, one after the other in one checkout, each killed at a moment drawn by lot."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from graftline.core.dvc_lock import LOCK_FILE, read_lock
from graftline.core.errors import InterruptedExperimentError
from graftline.core.stages import STAGES
from graftline.operations.dvc_exp_guard import refuse_after_interrupted
from tests.flows import tiny
from tests.torture import processes
from tests.torture.audit import Check, Results, checks, differences
from tests.torture.flips import Flip, flip, named_in
from tests.torture.lives import CLOSING, REGISTER, ROWS, STARTING, Door, Life, Moment
from tests.torture.place import Place
from tests.torture.processes import REACHES, Reach

_DOORS: dict[Door, float] = {"flow": 3.0, "dvc repro": 3.0, "dvc exp run": 2.0, "one step": 2.0}
_LEFT_TO_FINISH = 0.12
_REFUSED_LIMIT_S = 900.0
_REFUSED_WAIT_S = 1.0
_QUIET_S = 3.0
_REMEDIES_LIMIT = 8
_FLIPS_AT_ONCE = 8
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
        flips: How many times bits flip.
    """

    place: Place
    kills: int
    seed: int
    say: Callable[[str], None]
    flips: int = 0
    flipped: list[Flip] = field(default_factory=list)
    done: list[Kill] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    finished: int = 0
    refused: int = 0
    mended: int = 0
    """How often a killed experiment's changes were brought back, as the error told to."""
    remedied: int = 0
    """How often ``graftline mend`` was run, as the error told to."""
    _number: int = 0
    _remedies_in_a_row: int = 0

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
        for era, links in enumerate(("copy", self._chance.choice(("symlink", "hardlink"))), 1):
            self._kills, self._flips = (n * era // 2 for n in (self.kills, self.flips))
            self.say(f"a fresh clone: no outputs, no cache, no histories; cache.type {links}")
            self.place.make_stale(wipe=True)
            tiny.sh(self.place.root, "dvc", "config", "--local", "cache.type", links)
            while self._accidents_left:
                self._round(expected, spans)
            self._finish("flow")
            self._settle()
            audit = list(checks(self.place, expected))
            self.losses += [f"{one.title}: {wrong}" for one in audit for wrong in one.wrong]
        return audit

    @property
    def _accidents_left(self) -> bool:
        return len(self.done) < self._kills or len(self.flipped) < self._flips

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
            if self._mended() or self._remedied(life):
                continue
            if not life.refused or time.monotonic() > until:
                raise RuntimeError(f"an undisturbed run failed; see {life.output}\n{life.said}")
            self.refused += 1
            time.sleep(_REFUSED_WAIT_S)

    def _round(self, expected: Results, spans: Spans) -> None:
        """Lives until one has come to the end of the pipeline, or there were enough accidents."""
        self.place.make_stale(wipe=False)
        refused_since: float | None = None
        while self._accidents_left:
            door = self._door()
            flips = self._flip_now()
            rest = [stage for stage in STAGES if stage not in self.place.done()]
            if door == "one step" and (not rest or self._lacks_outputs()):
                continue
            life = self._begin(door, rest[0] if door == "one step" else None)
            moment = None if flips else self._moment(door, rest, spans)
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
            elif life.process.returncode and self._remedied(life):
                self.say(f"{life.number:4}  {door:<11}  found damage, which was mended")
            elif life.process.returncode:
                self._lose(life)
            else:
                self.finished += 1
                self.say(f"{life.number:4}  {door:<11}  came to its end")
                if not set(STAGES) - set(self.place.done()):
                    if self._settle():
                        self._finish("flow")
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

    def _lacks_outputs(self) -> bool:
        """Whether what was damaged has been removed, and has still to come back."""
        outs = [out for stage in read_lock(self.place.root).values() for out in stage.outs]
        return any(not (self.place.root / out).exists() for out in outs)

    def _flip_now(self) -> bool:
        """Lets bits flip, if it is their turn and nobody is at work who has them in memory."""
        flips, kills = self._flips - len(self.flipped), self._kills - len(self.done)
        if flips <= 0 or self._chance.random() > flips / max(flips + kills, 1):
            return False
        if not self.place.done() or not processes.await_quiet(self.place.mark, _QUIET_S):
            return False
        # A disk that fails seldom hits one file alone.
        for _ in range(min(flips, self._chance.randint(1, _FLIPS_AT_ONCE))):
            one = flip(self.place, self._chance, self.flipped)
            self.flipped.append(one)
            name = one.path.relative_to(self.place.root)
            self.say(f"      flip {one.number:3} in {one.kind}: {name}")
        self._remedies_in_a_row = 0
        return True

    def _remedied(self, life: Life) -> bool:
        """Does what the error over damaged bytes says, if there is one."""
        if not self._open_flips():
            return False
        said = life.said
        named = {path.resolve() for path in named_in(said)}
        noticed = [one for one in self._open_flips() if one.path.resolve() in named]
        broken_lock = [
            one for one in self._open_flips() if one.kind == LOCK_FILE and LOCK_FILE in said
        ]
        if broken_lock:
            # As docs/reliability.md has it: move it away.
            self.place.forget_lock()
        elif not named:
            return False
        before = self._open_flips()
        if named:
            self._mend()
        for one in before:
            if one in noticed or one in broken_lock:
                one.fate = "noticed by a run"
            elif named and not one.lies_there:
                one.fate = "found by mend"
        return True

    def _settle(self) -> bool:
        """Has what nobody has read so far looked at; returns whether there was any damage left."""
        for one in self._open_flips():
            if not one.lies_there:
                one.fate = "harmless"
        left = self._open_flips()
        if not left:
            return False
        self._mend()
        cache = self.place.root / ".dvc" / "cache"
        for one in left:
            if not one.lies_there:
                one.fate = "found by mend"
            elif one.kind == LOCK_FILE or one.path.is_relative_to(cache):
                # DVC read it and came to the same results; or no result is made of that object.
                one.fate = "harmless"
            else:
                one.fate = "lost"
                self.losses.append(f"flip {one.number} in {one.path} was noticed by nobody")
        return True

    def _mend(self) -> None:
        self.remedied += 1
        self._remedies_in_a_row += 1
        if self._remedies_in_a_row > _REMEDIES_LIMIT:
            raise RuntimeError(f"the remedy leads nowhere; see the last in {self.place.said}")
        processes.await_quiet(self.place.mark, _REFUSED_LIMIT_S)
        tiny.sh(self.place.root, sys.executable, "-m", "graftline", "mend")

    def _open_flips(self) -> list[Flip]:
        return [one for one in self.flipped if one.fate is None]

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
