"""Which process an execution of the pipeline belongs to, so that its stages share one run.

Each open execution is one small JSON file. An execution whose process is gone without having
closed its run is found here by process id and start time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import psutil

from graftline.core.processes import ProcessIdentity
from graftline.core.records import Record
from graftline.registry.tracking.store import Store

Door = Literal["dvc repro", "dvc exp run", "command line", "flow"]

_SHELLS = {"sh", "bash", "dash", "zsh", "fish", "ksh", "cmd.exe", "powershell.exe"}
_DVC_ARGUMENTS = 4


class Execution(Record):
    """One execution: its run and the process that holds it."""

    run_id: str
    uri: str
    """The store's address without a password."""
    experiment: str
    door: Door
    process: ProcessIdentity
    """The process that holds it."""
    stages: tuple[str, ...] = ()
    """The recorded stages that ran in it, in order."""
    params: dict[str, Any] = {}
    """What its stages run with."""


class Owner(Record):
    """The process that an execution belongs to, and the door that it is."""

    door: Door
    process: ProcessIdentity


class Order(Record):
    """What a recorder tells its helper process first."""

    root: str
    params: dict[str, Any]
    stage: str
    held_run_id: str | None
    """The run that a flow holds, if one does."""
    owner: Owner

    @property
    def lingers(self) -> bool:
        """Whether the helper waits for the ``dvc`` around the stage to end."""
        return self.held_run_id is None and self.owner.door != "command line"


def this_process(door: Door) -> Owner:
    """This process as the holder of an execution."""
    return Owner(door=door, process=ProcessIdentity.of())


def current_owner() -> Owner:
    """The nearest ``dvc`` above this process, or this process itself."""
    dvc = _dvc_above(psutil.Process())
    if dvc is None:
        return this_process("command line")
    door: Door = "dvc exp run" if "DVC_EXP_NAME" in os.environ else "dvc repro"
    return Owner(door=door, process=ProcessIdentity.of(dvc.pid))


def find(store: Store, owner: Owner) -> Execution | None:
    """The open execution of a process in this store, if there is one."""
    for execution in _all(store):
        if execution.process == owner.process and execution.experiment == store.experiment:
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
    return [execution for execution in _all(store) if not execution.process.alive()]


def _all(store: Store) -> Iterator[Execution]:
    for path in sorted(store.executions.glob("*.json")):
        # None: closed by another process a moment ago, or written by another version.
        execution = Execution.find(path)
        if execution is not None and execution.uri == store.shown:
            yield execution


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
