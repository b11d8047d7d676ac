"""Clusters that a step of the torture works on, and the processes of one that can be killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import psutil

from graftline.compute.own_cluster import served
from tests.torture import processes
from tests.torture.place import Place

Form = Literal["own", "graftline cluster", "by hand"]
"""Whose workers they are: the step's, those of ``graftline cluster``, or started one by one."""
FORMS: tuple[Form, ...] = ("own", "graftline cluster", "by hand")
Victim = Literal["a worker", "all workers", "a nanny", "the scheduler", "the step"]
"""What is killed. A nanny starts its worker again, and its worker ends with it."""
VICTIMS: tuple[Victim, ...] = ("a worker", "all workers", "a nanny", "the scheduler", "the step")
OF_FORM: dict[Form, dict[Victim, float]] = {
    # The scheduler and the nannies are threads of the step.
    "own": {"a worker": 3, "all workers": 2, "the step": 1},
    # They are threads of that one process.
    "graftline cluster": {"a worker": 3, "all workers": 2, "the scheduler": 2},
    "by hand": {"a worker": 2, "all workers": 1, "a nanny": 2, "the scheduler": 1},
}
"""What can be killed there, and how often it is."""
WORKERS = 2
_START_LIMIT_S = 180.0
_POLL_S = 0.05


class Kept:
    """A cluster that outlives the steps; what was killed of it is started again by :meth:`up`.

    Args:
        place: Where.
        form: Which; of ``own`` there is nothing to keep.
    """

    def __init__(self, place: Place, form: Form) -> None:
        self._place, self.form = place, form
        self._file = place.folder / "scheduler.json"
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._nannies: list[subprocess.Popen[bytes]] = []
        self.address: str | None = None

    def up(self) -> None:
        """Starts what is not there."""
        if self.form == "own":
            return
        if self._scheduler is None or self._scheduler.poll() is not None:
            self._end(self._nannies)
            self._file.unlink(missing_ok=True)
            self._scheduler = self._started(
                ["graftline", "cluster", "--port", "0", "--workers", str(WORKERS)]
                if self.form == "graftline cluster"
                else ["dask", "scheduler", "--host", "tcp://127.0.0.1", "--port", "0"]
                + ["--scheduler-file", str(self._file), "--no-dashboard"]
            )
            self.address = self._told()
        if self.form == "by hand":
            alive = [one for one in self._nannies if one.poll() is None]
            command = ["dask", "worker", str(self.address), "--nthreads", "1", "--no-dashboard"]
            more = [self._started(command) for _ in range(WORKERS - len(alive))]
            self._nannies = [*alive, *more]

    def down(self) -> None:
        """Ends it."""
        self._end([*self._nannies, *([self._scheduler] if self._scheduler else [])])

    def of(self, victim: Victim) -> list[psutil.Process]:
        """The processes that a victim's name stands for."""
        if victim == "the step":
            # Which DVC may have started. Whose workers are its own is their parent.
            try:
                parents = [one.parent() for one in workers(self._place)]
            except psutil.NoSuchProcess:
                return []
            return [one for one in parents if one is not None][:1]
        if victim == "the scheduler":
            return [psutil.Process(self._scheduler.pid)] if self._scheduler else []
        if victim == "a nanny":
            return [psutil.Process(one.pid) for one in self._nannies if one.poll() is None]
        return workers(self._place)

    def _started(self, command: list[str]) -> subprocess.Popen[bytes]:
        by_hand = command[0] == "dask"
        name = command[1] if by_hand else "cluster"
        # Where the folders of those that were killed stay; what Graftline starts has its own place.
        more = {"DASK_TEMPORARY_DIRECTORY": str(self._place.folder / "dask")} if by_hand else {}
        with (self._place.said / f"{name}.txt").open("ab") as output:
            return subprocess.Popen(
                # From the checkout's own modules, as the step.
                [sys.executable, "-m", *command],
                cwd=self._place.root,
                env=self._place.environment(more),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _told(self) -> str:
        until = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < until:
            if self.form == "by hand":
                if text := _read(self._file):
                    return str(json.loads(text)["address"])
            elif (known := served(self._place.root)) is not None:
                if self._scheduler is not None and known.process.pid == self._scheduler.pid:
                    return known.address
            if self._scheduler is None or self._scheduler.poll() is not None:
                break
            time.sleep(_POLL_S)
        raise RuntimeError(f"the cluster does not start; see {self._place.said}")

    def _end(self, ended: list[subprocess.Popen[bytes]]) -> None:
        for process in ended:
            process.terminate()
        for process in ended:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        ended.clear()


def workers(place: Place) -> list[psutil.Process]:
    """The processes of Dask's workers that work now, whoever has started them."""
    found = []
    for process in processes.marked(place.mark):
        try:
            line = process.cmdline()
            if any("spawn_main" in word for word in line) and process.status() != "zombie":
                found.append(process)
        except psutil.Error:
            continue
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
