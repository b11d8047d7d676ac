"""Asks DVC what is stale and has it run one stage; its command line is the stable interface."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar, Literal

from graftline.core.counts import counted
from graftline.core.dvc_file import DVC_FILE
from graftline.core.environment import ERROR_FILE_VARIABLE
from graftline.core.errors import (
    DataError,
    GraftlineError,
    PipelineBusyError,
    StageFailedError,
    error_from_json,
    says_full_disk,
    storage_full,
    visible,
)
from graftline.core.params import read_params
from graftline.core.processes import ProcessIdentity, end_group
from graftline.core.records import Record
from graftline.core.redaction import without_secrets
from graftline.core.silence import SILENCE_S, Watch, looks_every_s, stalled
from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace
from graftline.operations.dvc_commands import STATUS, dvc_ended
from graftline.operations.earlier_results import TAKEN
from graftline.operations.mend import remove_damaged_objects
from graftline.operations.own_stages import own_stages
from graftline.operations.warm_dvc import DvcStandby, order

Doing = Literal["executed", "restored", "unchanged"]
"""What DVC did: ran the command, took the outputs from its cache, or found nothing to do."""

_ENDING_S = 10.0
_ERROR_LINES = 12
_SHELL_ADDS = 128
_NOISE = (
    "Running stage '",
    "> ",
    "Generating lock file",
    "Updating lock file",
    "Use `dvc push`",
    "To track the changes",
    "\tgit add ",
    "To enable auto staging",
    "\tdvc config core.autostage",
    # What TensorFlow says of itself in each process.
    "WARNING: All log messages before absl::InitializeLog()",
    "I0000 00:00:",
    # LiteRT's own code tells it once in each process, and has no switch for it.
    "INFO: Created TensorFlow Lite XNNPACK delegate",
    # What failed, and why, is told by the error that the task raises.
    "ERROR: failed to reproduce",
)
_NO_TEXT = "surrogates not allowed"
"""What Python says where a name's bytes are no UTF-8."""
_log = logging.getLogger(__name__)
_BUSY = re.compile(r"is busy, it is being blocked by:\s*(?P<holders>.*?)(?:\n\s*\n|$)", re.DOTALL)
_LOCKED = re.compile(r"Unable to acquire lock")


class _Group(Record):
    """``var/stage.json``: the process group in which a stage is at work."""

    lies_at: ClassVar[str] = "var/stage.json"

    stage: str
    leader: ProcessIdentity


@dataclass(frozen=True)
class StageCommand:
    """How a stage is to be run.

    Args:
        stage: Its name in ``dvc.yaml``.
        log_file: Where everything that it prints is kept.
        environment: What it finds in its environment besides this process's.
        force: Whether it runs even if nothing has changed.
        silence_s: How long it may give no sign of life before it is ended, in seconds.
    """

    stage: str
    log_file: Path
    environment: Mapping[str, str]
    force: bool = False
    silence_s: float = SILENCE_S

    @property
    def error_file(self) -> Path:
        """Where the stage's process leaves its error."""
        return self.log_file.with_suffix(".error.json")


@dataclass(frozen=True)
class Staleness:
    """What DVC has to do.

    Args:
        stale: The stages that it would run, as far as that can be told before any of them has run.
        restored: Those whose outputs were gone, and came back from its cache.
        own: The project's own stages, by the step that waits for them.
    """

    stale: frozenset[str]
    restored: frozenset[str] = frozenset()
    own: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def staleness(workspace: Workspace) -> Staleness:
    """Asks DVC what is stale, and has it fetch the outputs that are only gone.

    It would run their stages again: it looks into its cache for none whose outputs persist.

    Raises:
        PipelineBusyError: If another DVC process is at work.
        StageFailedError: If DVC cannot tell.
    """
    report = _status(workspace)
    if _lacks_objects(report):
        # A list of a folder's files that is damaged looks so too, and would stay in the way.
        for path in remove_damaged_objects(workspace.root):
            _log.warning("%s of DVC's cache was damaged, and was removed", path)
    deleted = {
        stage: outputs
        for stage, changes in report.items()
        if (outputs := _only_deleted(changes)) is not None
    }
    own = own_stages(workspace.root, report, _environment())
    outputs = sorted({output for of_stage in deleted.values() for output in of_stage})
    # What the cache lacks too is left to its stage.
    if not outputs or _asked(workspace, "checkout", *outputs).returncode:
        return Staleness(frozenset(report), own=own)
    left = frozenset(_status(workspace))
    restored = frozenset(stage for stage, of_stage in deleted.items() if of_stage)
    return Staleness(left, restored - left, own)


def _status(workspace: Workspace) -> dict[str, Any]:
    """What has changed of each stage, by its name."""
    finished = _asked(workspace, *STATUS)
    if finished.returncode:
        said = finished.stdout + finished.stderr
        if says_full_disk(said):
            raise storage_full(workspace.root)
        if _NO_TEXT in said:
            _refuse_names(workspace)
        raise _busy(said) or StageFailedError(
            "DVC cannot tell what is current:\n" + _last_errors(said.splitlines()),
            where=str(workspace.root / "dvc.yaml"),
            fix="run dvc status, which says the same at length",
        )
    report: dict[str, Any] = json.loads(finished.stdout or "{}")
    return {name.removeprefix(f"{DVC_FILE}:"): changes for name, changes in report.items()}


def _refuse_names(workspace: Workspace) -> None:
    """Names the files of the source whose names DVC cannot write down; only it minds them."""
    folder = workspace.root / (read_params(workspace.params_file).data.path or "")
    names = [
        os.path.join(parent, name)
        for parent, folders, files in os.walk(folder)
        for name in (*folders, *files)
        if name != name.encode("utf-8", "replace").decode("utf-8")
    ]
    if names:
        raise DataError(
            f"DVC takes no names that are not UTF-8, and "
            f"{counted(len(names), 'file has', 'files have')} one: {visible(min(names))}",
            where=f"data.path: {folder}",
            allowed="names in UTF-8",
            fix="rename them; convmv -r -f latin1 -t utf8 --notest FOLDER does it for a whole "
            "folder whose names are in Latin-1",
        )


def _only_deleted(changes: list[Any]) -> list[str] | None:
    """The outputs that are gone, if nothing has happened to the stage but that files are gone."""
    outputs: list[str] = []
    for change in changes:
        if not isinstance(change, dict) or not change.keys() <= {"changed outs", "changed deps"}:
            return None
        for kind, files in change.items():
            if any(what != "deleted" for what in files.values()):
                return None
            outputs += files if kind == "changed outs" else ()
    return outputs


def _lacks_objects(report: Mapping[str, Any]) -> bool:
    return any(
        "not in cache" in files.values()
        for changes in report.values()
        for change in changes
        if isinstance(change, dict)
        for kind, files in change.items()
        if kind == "changed outs"
    )


def _asked(workspace: Workspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    return dvc_ended(workspace.root, *arguments, environment=_environment())


def standby(workspace: Workspace) -> DvcStandby:
    """Keeps a DVC process ready for :func:`reproduce`."""
    return DvcStandby(workspace.root, _environment())


def reproduce(
    workspace: Workspace,
    command: StageCommand,
    on_line: Callable[[str], None],
    ready: DvcStandby | None = None,
) -> Doing:
    """Has DVC run one stage if it is stale, in a process group of its own.

    The group is ended when the stage gives no sign of life any more, however long it has worked,
    and when this process is interrupted.

    Args:
        workspace: The checkout.
        command: The stage, and how it is run.
        on_line: Told each line that the stage prints, while it runs.
        ready: Has the process that is told to do it, and gets one for the next stage; by default
            one is started.

    Raises:
        GraftlineError: What the stage itself raised.
        PipelineBusyError: If another DVC process is at work.
        StageFailedError: If the stage died without a word.
        StalledError: If it gave no sign of life for ``command.silence_s``.
    """
    command.error_file.unlink(missing_ok=True)
    arguments = ["repro", "--single-item", *(["--force"] if command.force else [])]
    command.log_file.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    with command.log_file.open("w", encoding="utf-8") as log:
        process = (ready or standby(workspace)).take()
        if ready and command.stage != STAGES[-1]:
            ready.prepare()
        with _group(workspace, command, process, [*arguments, command.stage], on_line) as guard:
            for line in _lines(process):
                guard.watch.heard()
                print(line, file=log, flush=True)
                lines.append(line)
                if not line.startswith(_NOISE):
                    on_line(line)
            code = process.wait()
    if guard.stopped:
        raise stalled(f"stage {command.stage}", command.silence_s, str(command.log_file))
    if code:
        raise _failure(command, code, lines)
    return _doing(command.stage, lines)


def end_orphans(workspace: Workspace) -> str | None:
    """Ends the stage that a killed flow has left at work; call it while holding the pipeline.

    Returns:
        The stage's name if there was one.
    """
    group = _Group.find_in(workspace)
    if group is None:
        return None
    was_alive = end_group(group.leader, _ENDING_S)
    _Group.path_in(workspace).unlink(missing_ok=True)
    return group.stage if was_alive else None


class _Guard(threading.Thread):
    """Ends a stage that gives no sign of life; says so when half of that time is over."""

    def __init__(
        self, command: StageCommand, leader: ProcessIdentity, say: Callable[[str], None]
    ) -> None:
        super().__init__(name="guard", daemon=True)
        self.watch = Watch(leader.pid)
        self.stopped = False
        self._command, self._leader, self._say = command, leader, say
        self._over = threading.Event()

    def run(self) -> None:
        """Looks at the stage again and again."""
        limit_s, told = self._command.silence_s, False
        while not self._over.wait(looks_every_s(limit_s)):
            silent_s = self.watch.silent_s()
            if silent_s > limit_s:
                self.stopped = True
                end_group(self._leader, _ENDING_S)
                return
            if silent_s > limit_s / 2 and not told:
                self._say(
                    f"{self._command.stage} has used no CPU time and printed nothing for "
                    f"{silent_s:.0f} s; it is stopped after {limit_s:g} s of that"
                )
            told = silent_s > limit_s / 2

    def dismiss(self) -> None:
        """Ends the guard; from now on it stops nothing."""
        self._over.set()
        self.join()


@contextmanager
def _group(
    workspace: Workspace,
    command: StageCommand,
    process: subprocess.Popen[str],
    arguments: list[str],
    say: Callable[[str], None],
) -> Iterator[_Guard]:
    told = {**command.environment, ERROR_FILE_VARIABLE: str(command.error_file)}
    try:
        leader = ProcessIdentity.of(process.pid)
        _Group(stage=command.stage, leader=leader).write(_Group.path_in(workspace))
        guard = _Guard(command, leader, say)
        # Not before it stands there: a killed flow's stage must be found.
        order(process, arguments, told)
        guard.start()
        try:
            yield guard
        finally:
            guard.dismiss()
    finally:
        # On an interrupt the stage is at work still, and its group with it.
        if process.poll() is None:
            end_group(leader, _ENDING_S)
            process.wait()
        if process.stdout:
            process.stdout.close()
        _Group.path_in(workspace).unlink(missing_ok=True)


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    stream: IO[str] | None = process.stdout
    for line in stream or ():
        if text := line.rstrip():
            # What DVC and others quote goes to logs, to Prefect and to the screen.
            yield without_secrets(text)


def _doing(stage: str, lines: list[str]) -> Doing:
    said = "\n".join(lines)
    if TAKEN in lines:
        return "restored"
    if f"Running stage '{stage}'" in said:
        return "executed"
    if f"Stage '{stage}' is cached - skipping run" in said:
        return "restored"
    if f"Stage '{stage}' didn't change, skipping" in said:
        return "unchanged"
    # Committed outputs that only had to be fetched or checked out leave other words.
    return "restored"


def _failure(command: StageCommand, code: int, lines: list[str]) -> GraftlineError:
    try:
        return error_from_json(command.error_file.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    said = "\n".join(lines)
    if busy := _busy(said):
        return busy
    if says_full_disk(said):
        return storage_full(f"the outputs of {command.stage}, or DVC's cache of them")
    if number := _killed_by(said):
        how = f"was killed ({_signal_name(number)})"
        if number == signal.SIGKILL:
            how += ", as the system does when memory runs out"
    else:
        how = f"failed (exit code {code})"
    return StageFailedError(
        f"stage {command.stage} {how}:\n{_last_errors(lines)}", where=str(command.log_file)
    )


def _busy(said: str) -> PipelineBusyError | None:
    if found := _BUSY.search(said):
        who = " ".join(found["holders"].split())
    elif _LOCKED.search(said):
        who = "a process that it does not name"
    else:
        return None
    return PipelineBusyError(
        f"DVC is at work in this checkout: {who}", fix="wait until it has ended, and run again"
    )


def _killed_by(said: str) -> int | None:
    """The signal that ended the stage's process, from what DVC says of its exit."""
    found = re.search(r"exited with (-?\d+)", said)
    if found is None:
        return None
    code = int(found[1])
    # bash takes the command's place; dash stays its parent and adds 128 to the signal.
    number = -code if code < 0 else code - _SHELL_ADDS
    return number if number > 0 else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_errors(lines: list[str]) -> str:
    errors = [line for line in lines if line.startswith("ERROR:")] or lines[-_ERROR_LINES:]
    return "\n".join(f"  {line.removeprefix('ERROR: ')}" for line in errors)


def _environment() -> dict[str, str]:
    # The stages' commands say `python`, which must be the one that runs this.
    folder = str(Path(sys.executable).parent)
    path = os.pathsep.join((folder, os.environ.get("PATH", "")))
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
