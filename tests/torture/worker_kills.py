"""Steps that work on a cluster, whose workers, nannies or scheduler are killed among the chunks."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from graftline.core.files import sha256_file
from tests.torture import clusters, processes
from tests.torture.audit import Check, Results, checks, differences
from tests.torture.clusters import FORMS, OF_FORM, Form, Kept, Victim
from tests.torture.place import Place

STEPS = ("load", "preprocess", "extract", "evaluate", "predict")
"""Those that work on chunks; the last is batch prediction."""
_LOST = ("the scheduler was lost", "no scheduler answers", "the scheduler has had no worker")
"""What a step says that ends since its scheduler is gone; each with what to do."""
_LIFE_LIMIT_S = 900.0
_ALONE_S = 60.0
_POLL_S = 0.002
_AGAIN = 0.6
"""How often the cluster of the last life is used for the next one."""
_SECOND_KILL = 0.35
_WHOLE = 0.12
"""How often all steps run, by ``dvc repro``, and not one by itself."""
_BORN = 0.15
"""How often a kill comes before the first chunk is done."""


@dataclass(frozen=True)
class WorkerKill:
    """One kill: in which step, on what cluster, of what, and after how many chunks."""

    step: str
    form: Form
    victim: Victim
    chunks: int


@dataclass
class WorkerCampaign:
    """Kills what works on chunks, and compares what comes out.

    Args:
        place: One of many chunks.
        kills: How many times.
        seed: Of all that is left to chance.
        say: Told each life's fate.
    """

    place: Place
    kills: int
    seed: int
    say: Callable[[str], None]
    done: list[WorkerKill] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    finished: int = 0
    again: int = 0
    """How many steps ended since they or their scheduler were killed, and were started again."""
    _number: int = 0

    def run(self) -> list[Check]:
        """Everything: the undisturbed steps, the kills, and what must hold at the end."""
        self._chance = random.Random(self.seed)
        self._kept = Kept(self.place, "own")
        try:
            expected = self._undisturbed()
            while len(self.done) < self.kills:
                self._life()
                self.losses += [f"after life {self._number}: {one}" for one in self._wrong()]
                # What is wrong once would be told again after each life.
                if self.losses:
                    break
        finally:
            self._kept.down()
        self._set(None)
        self._make_stale()
        self._whole_run([sys.executable, "-m", "flows.train"])
        audit = list(checks(self.place, expected))
        self.losses += [f"{one.title}: {wrong}" for one in audit for wrong in one.wrong]
        return audit

    def _undisturbed(self) -> Results:
        """On threads first, then on a cluster: both come to the same bytes."""
        self._set_params(engine="local", address=None, workers=None)
        self._whole_run(["dvc", "repro"])
        self._whole_run(self._command("predict"))
        self._expected = Results.of(self.place)
        self._predicted = sha256_file(self._out)
        self._set(None)
        self._chunks = {step: self._counted(step) for step in STEPS}
        told = ", ".join(f"{step} {count}" for step, count in self._chunks.items())
        self.say(f"undisturbed, chunks: {told}")
        self.losses += self._wrong()
        return self._expected

    def _counted(self, step: str) -> int:
        most = 0
        with self._begun(self._command(step)) as life:
            for _ in _watched(life):
                most = max(most, self._parts(step))
        if life.returncode:
            raise RuntimeError(f"{step} failed undisturbed; see {self._said}")
        return most

    def _life(self) -> None:
        form = self._cluster()
        whole = self._chance.random() < _WHOLE
        hit = Counter(kill.step for kill in self.done)
        steps = STEPS[:-1] if whole else STEPS
        step = min(steps, key=lambda one: hit[one] + self._chance.uniform(0, 1.5))
        if whole:
            self._make_stale()
        command = ["dvc", "repro"] if whole else self._command(step)
        self._out.unlink(missing_ok=True)
        ended = False
        with self._begun(command) as life:
            twice = self._chance.random() < _SECOND_KILL and self.kills > len(self.done) + 1
            for _ in range(2 if twice else 1):
                victim = self._chance.choices([*OF_FORM[form]], [*OF_FORM[form].values()])[0]
                if not self._await_moment(life, step):
                    break
                ended = self._kill(life, step, form, victim) or ended
                if ended:
                    break
            for _ in _watched(life):
                pass
        if ended:
            self._end_and_start_again(life, command, form)
        elif life.returncode:
            self._lose(life)
        else:
            self.finished += 1

    def _await_moment(self, life: subprocess.Popen[bytes], step: str) -> bool:
        """Waits for a number of chunks to be done; whether that comes before the step's end."""
        count = self._chance.randint(1, self._chunks[step] - 1)
        if self._chance.random() < _BORN:
            count = 0
        wait_s = self._chance.uniform(0, 3) if count == 0 else self._chance.uniform(0, 0.05)
        for _ in _watched(life):
            parts = self._parts(step)
            if parts >= max(count, 1) or (count == 0 and parts == 0 and self._called(step)):
                time.sleep(wait_s)
                return life.poll() is None
        return False

    def _kill(self, life: subprocess.Popen[bytes], step: str, form: Form, victim: Victim) -> bool:
        """Kills it; whether the step cannot go on without."""
        found = self._kept.of(victim)
        if victim in ("a worker", "a nanny") and found:
            found = [self._chance.choice(found)]
        if not found or life.poll() is not None:
            return False
        chunks = self._parts(step)
        for one in found:
            try:
                one.kill()
            except psutil.Error:
                continue
        self.done.append(WorkerKill(step, form, victim, chunks))
        self.say(
            f"{self._number:4}  kill {len(self.done):3} of {victim:<13} in {step:<10} after "
            f"{chunks:2} of {self._chunks[step]:2} chunks; {form}"
        )
        return victim in ("the scheduler", "the step")

    def _end_and_start_again(
        self, life: subprocess.Popen[bytes], command: list[str], form: Form
    ) -> None:
        told = self._said.read_text(encoding="utf-8", errors="replace")
        by_itself = life.returncode == 0
        killed = self.done[-1].victim == "the step"
        if not (by_itself or killed or any(words in told for words in _LOST)):
            self._lose(life)
        if form == "own":
            self._await_alone()
        if by_itself:
            # It had all chunks already.
            self.finished += 1
            return
        self.again += 1
        self._kept.up()
        self._set(self._kept.address)
        self._whole_run(command)

    def _await_alone(self) -> None:
        """A step that was killed leaves no worker."""
        until = time.monotonic() + _ALONE_S
        while (left := clusters.workers(self.place)) and time.monotonic() < until:
            processes.reap()
            time.sleep(0.1)
        self.losses += [f"life {self._number} has left the worker {one.pid}" for one in left]

    def _wrong(self) -> list[str]:
        found = differences(Results.of(self.place), self._expected)
        if self._out.is_file() and sha256_file(self._out) != self._predicted:
            found.append("the predictions have other bytes")
        if (left := list((self.place.workspace.var / "parts").glob("*"))) != []:
            found.append(f"parts of a finished step are left: {left}")
        return found

    def _whole_run(self, command: list[str]) -> None:
        with self._begun(command) as life:
            for _ in _watched(life):
                pass
        if life.returncode:
            raise RuntimeError(f"{' '.join(command)} failed undisturbed; see {self._said}")
        self.finished += 1

    def _lose(self, life: subprocess.Popen[bytes]) -> None:
        told = self._said.read_text(encoding="utf-8", errors="replace").splitlines()
        last = [line for line in told if line.strip()][-6:]
        self.losses.append(f"life {self._number} ended with {life.returncode}: {last}")
        self.say(self.losses[-1])

    def _cluster(self) -> Form:
        """Has a cluster up, drawn by lot, and the parameters name it."""
        form = self._kept.form
        if not self._number or self._chance.random() > _AGAIN:
            form = self._chance.choice(FORMS)
        if form != self._kept.form:
            self._kept.down()
            self._kept = Kept(self.place, form)
        self._kept.up()
        self._set(self._kept.address)
        return form

    def _set(self, address: str | None) -> None:
        self._set_params(engine="dask", address=address, workers=clusters.WORKERS)

    def _set_params(self, **compute: object) -> None:
        path = self.place.workspace.params_file
        params = json.loads(path.read_text())
        params["compute"] = {**params["compute"], **compute}
        path.write_text(json.dumps(params, indent=2))

    def _make_stale(self) -> None:
        self.place.make_stale(wipe=False)

    def _command(self, step: str) -> list[str]:
        if step != "predict":
            return [sys.executable, "-m", "graftline", step]
        asked = [str(self.place.images), "--out", str(self._out)]
        return [sys.executable, "-m", "flows.predict", *asked, "--model", "models/trained"]

    @property
    def _out(self) -> Path:
        return self.place.folder / "predicted.parquet"

    def _parts(self, step: str) -> int:
        if step == "predict":
            return len(list(self._out.with_name(f".{self._out.name}.parts").glob("part-*.parquet")))
        return len(list((self.place.workspace.var / "parts" / step).glob("*/*.npz")))

    def _called(self, step: str) -> bool:
        """Whether a step has called its workers."""
        return (self.place.workspace.var / "parts" / step / "key").exists() or (
            step == "predict" and bool(clusters.workers(self.place))
        )

    @contextmanager
    def _begun(self, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        self._number += 1
        self._said = self.place.said / f"worker-{self._number:03}.txt"
        life = self.place.started(command, self._said)
        yield life
        life.wait()
        processes.reap()


def _watched(life: subprocess.Popen[bytes]) -> Iterator[None]:
    until = time.monotonic() + _LIFE_LIMIT_S
    while life.poll() is None:
        if time.monotonic() > until:
            raise TimeoutError(f"{' '.join(map(str, life.args))} hangs")  # type: ignore[arg-type]
        yield
        time.sleep(_POLL_S)
