"""Who may work on the checkout: one pipeline at a time, and one process a stage.

The locks are the operating system's, so the death of a holder frees them; the record beside each
tells who holds it. Between machines that share the folder the file server may keep a lock whose
holder's machine is gone, or know no locks at all. So there the record counts too: what a living
process of another machine holds is held, and what a dead one's held is taken. And it counts while
a process starts anew (:mod:`graftline.core.fresh_start`), which gives its locks up for a moment.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from graftline.core.environment import HELD_BY_VARIABLE
from graftline.core.errors import PipelineBusyError
from graftline.core.fresh_start import OvergrownError
from graftline.core.process_identity import boot_id
from graftline.core.processes import ProcessIdentity, is_ancestor, own_command
from graftline.core.records import Record
from graftline.core.workspace import Workspace

_POLL_S = 0.2
_INSTALLATION_S = 3600.0
_GLANCE_S = 10.0
"""How long somebody else may have a lock who looks whether it is free."""


class Holder(Record):
    """Who holds a lock."""

    process: ProcessIdentity
    command: str
    since: str
    """Local time, to the second, with its offset."""
    anew: bool = False
    """Whether the process starts anew at this moment, and takes the lock again."""

    @property
    def is_here(self) -> bool:
        """Whether this very process is meant."""
        return self.process.pid == os.getpid() and not self.process.elsewhere

    def __str__(self) -> str:
        place = f" on {self.process.host.partition(' ')[0]}" if self.process.elsewhere else ""
        return f"process {self.process.pid}{place} ({self.command}), since {self.since}"


@contextmanager
def pipeline_lock(
    workspace: Workspace,
    wait_s: float = 0.0,
    on_wait: Callable[[str], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Holds the whole pipeline of a checkout.

    A process started by the holder, which tells it so by ``GRAFTLINE_PIPELINE_HELD_BY``, goes on
    under its parent's lock.

    Args:
        workspace: The checkout.
        wait_s: How long to wait for another holder, in seconds; 0 refuses at once.
        on_wait: Told once who holds the pipeline, if there is any waiting.
        environment: By default this process's environment.

    Raises:
        PipelineBusyError: If another process holds the pipeline; the message names it.
    """
    given = os.environ if environment is None else environment
    if _held_by_parent(workspace, given.get(HELD_BY_VARIABLE, "")):
        yield
        return
    with _held(workspace.var / "pipeline.lock", "the pipeline", wait_s, on_wait):
        yield


@contextmanager
def stage_lock(workspace: Workspace, stage: str, wait_s: float = 0.0) -> Iterator[None]:
    """Holds one stage, so that what it writes is written by nobody else.

    It stands besides the pipeline's lock because a killed flow frees that one while the stage
    that it started may still be at work.

    Raises:
        PipelineBusyError: If another process is at work on the stage.
    """
    with _held(workspace.var / "locks" / f"{stage}.lock", f"stage {stage}", wait_s, None):
        yield


@contextmanager
def output_lock(workspace: Workspace, output: Path) -> Iterator[None]:
    """Holds a file that is no stage's, so that what is written there is written by nobody else.

    Raises:
        PipelineBusyError: If another process is writing it.
    """
    digest = hashlib.sha256(os.fsencode(output.resolve())).hexdigest()[:16]
    with _held(workspace.var / "locks" / f"output-{digest}.lock", str(output), 0.0, None):
        yield


@contextmanager
def installation_lock(
    workspace: Workspace, place: Path, on_wait: Callable[[str], None]
) -> Iterator[None]:
    """Holds a place that packages are installed into; another process that does so is waited for.

    Raises:
        PipelineBusyError: If it takes longer than an hour.
    """
    path = workspace.var / "locks" / f"installation-{place.name}.lock"
    with _held(path, str(place), _INSTALLATION_S, on_wait):
        yield


def holder(workspace: Workspace) -> Holder | None:
    """Who holds the pipeline; None if nobody does, or if the record is a dead process's."""
    return _read(_record_path(workspace.var / "pipeline.lock"))


def _held_by_parent(workspace: Workspace, number: str) -> bool:
    if not number.isdigit():
        return False
    current = holder(workspace)
    if current is None or current.process.elsewhere or current.process.pid != int(number):
        return False
    return current.process.pid == os.getpid() or is_ancestor(current.process.pid)


@contextmanager
def _held(
    path: Path, what: str, wait_s: float, on_wait: Callable[[str], None] | None
) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    if not _taken(lock, path):
        current = _read(_record_path(path))
        if current is not None and current.is_here and current.anew:
            wait_s = max(wait_s, _GLANCE_S)
        elif wait_s > 0 and on_wait is not None:
            on_wait(f"{what} is held by {_name(path)}; waiting up to {wait_s:g} s")
        _wait(lock, path, what, wait_s)
    try:
        record = Holder(
            process=ProcessIdentity.of(),
            command=own_command(),
            since=datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
        )
        record.write(_record_path(path))
        ends = True
        try:
            yield
        except OvergrownError:
            ends = False
            raise
        finally:
            # Before the release: afterwards it could be the next holder's.
            if ends:
                _record_path(path).unlink(missing_ok=True)
            else:
                record.model_copy(update={"anew": True}).write(_record_path(path))
    finally:
        lock.release()


def _wait(lock: FileLock, path: Path, what: str, wait_s: float) -> None:
    until = time.monotonic() + wait_s
    while not _taken(lock, path):
        if time.monotonic() > until:
            waited = f" after waiting {wait_s:g} s" if wait_s > 0 else ""
            raise PipelineBusyError(
                f"{what} is held by {_name(path)}{waited}",
                where=str(path),
                fix="wait until it has ended, let the flow wait with --wait SECONDS, or stop it",
            )
        time.sleep(_POLL_S)


def _taken(lock: FileLock, path: Path) -> bool:
    """Takes the lock if it is free, or if it is a dead machine's."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        known = Holder.find(_record_path(path))
        if known is None or not known.process.elsewhere or known.process.alive():
            return False
        # The file server holds it for a machine that is gone. Who waits opens the new file too.
        path.unlink(missing_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
    current = _read(_record_path(path))
    if current is not None and current.anew and not current.is_here:
        lock.release()
        return False
    # Within one boot the system's lock says it all, of other containers too.
    if current is None or not current.process.elsewhere or current.process.boot == boot_id():
        return True
    lock.release()
    return False


def _name(path: Path) -> str:
    current = _read(_record_path(path))
    return str(current) if current else "a process that has not yet told its name"


def _record_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _read(path: Path) -> Holder | None:
    record = Holder.find(path)
    return record if record is not None and record.process.alive() else None
