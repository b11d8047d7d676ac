"""Which process an execution of the pipeline belongs to, so that its stages share one run.

Each open execution is one small JSON file. An execution whose process is gone without having
closed its run is found here by process id and start time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import psutil

from graftline.artifacts import Record
from graftline.errors import MissingOutputError
from graftline.tracking.store import Store

Door = Literal["dvc repro", "dvc exp run", "command line", "flow"]

HELD_RUN_VARIABLE = "GRAFTLINE_RUN_ID"
_SHELLS = {"sh", "bash", "dash", "zsh", "fish", "ksh", "cmd.exe", "powershell.exe"}
_DVC_ARGUMENTS = 4
_SAME_START_S = 0.05


class Execution(Record):
    """One execution: its run and the process that holds it."""

    run_id: str
    uri: str
    """The store's address without a password."""
    experiment: str
    door: Door
    pid: int
    started_s: float
    """When the process started, in seconds since 1970."""
    stages: tuple[str, ...] = ()
    """The recorded stages that ran in it, in order."""

    @property
    def alive(self) -> bool:
        """Whether its process is still there (and is no other with the same number)."""
        try:
            process = psutil.Process(self.pid)
            started_s = process.create_time()
            return abs(started_s - self.started_s) < _SAME_START_S and (
                process.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.Error:
            return False


class Owner(Record):
    """The process that an execution belongs to, and the door that it is."""

    door: Door
    pid: int
    started_s: float


def this_process(door: Door) -> Owner:
    """This process as the holder of an execution."""
    process = psutil.Process()
    return Owner(door=door, pid=process.pid, started_s=process.create_time())


def current_owner() -> Owner:
    """The nearest ``dvc`` above this process, or this process itself."""
    dvc = _dvc_above(psutil.Process())
    if dvc is None:
        return this_process("command line")
    door: Door = "dvc exp run" if "DVC_EXP_NAME" in os.environ else "dvc repro"
    return Owner(door=door, pid=dvc.pid, started_s=dvc.create_time())


def find(store: Store, owner: Owner) -> Execution | None:
    """The open execution of a process in this store, if there is one."""
    for path, execution in _all(store):
        if (
            execution.pid == owner.pid
            and abs(execution.started_s - owner.started_s) < _SAME_START_S
            and execution.uri == store.shown
            and execution.experiment == store.experiment
            and path.exists()
        ):
            return execution
    return None


def keep(store: Store, execution: Execution) -> None:
    """Writes down an execution."""
    execution.write(_path(store, execution.run_id))


def forget(store: Store, run_id: str) -> None:
    """Removes an execution that is closed."""
    _path(store, run_id).unlink(missing_ok=True)


def abandoned(store: Store) -> list[Execution]:
    """The executions in this store whose process is gone."""
    return [
        execution
        for _, execution in _all(store)
        if execution.uri == store.shown and not execution.alive
    ]


def _all(store: Store) -> Iterator[tuple[Path, Execution]]:
    for path in sorted(store.executions.glob("*.json")):
        try:
            yield path, Execution.read(path)
        except MissingOutputError:
            # Closed by another process a moment ago, or written by another version.
            continue


def _path(store: Store, run_id: str) -> Path:
    return store.executions / f"{run_id}.json"


def _dvc_above(process: psutil.Process) -> psutil.Process | None:
    try:
        ancestors = process.parents()
    except psutil.Error:
        return None
    for ancestor in ancestors:
        if _is_dvc(ancestor):
            return ancestor
    if "DVC_STAGE" not in os.environ:
        return None
    # DVC runs inside a Python program of another name: the first that is no shell.
    return next((one for one in ancestors if _name(one) not in _SHELLS), None)


def _is_dvc(process: psutil.Process) -> bool:
    try:
        arguments = process.cmdline()[:_DVC_ARGUMENTS]
    except psutil.Error:
        return False
    return any(Path(argument).name in ("dvc", "dvc.exe") for argument in arguments)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""
