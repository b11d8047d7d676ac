"""Records a stage while it works, without making it wait for MLflow.

Importing MLflow takes seconds, and a stage that is killed can close nothing. So a helper process
(:mod:`graftline.registry.tracking.recorder_worker`) talks to MLflow: it imports it while the stage
imports TensorFlow, and when the stage is gone without a word, the helper closes the run as KILLED.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sysconfig
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import graftline
from graftline.core.environment import RUN_ID_VARIABLE
from graftline.core.errors import GraftlineError, TrackingError, error_from_json
from graftline.core.params import Params
from graftline.core.silence import Watch, looks_every_s
from graftline.core.startup import module_command
from graftline.core.workspace import Workspace
from graftline.registry.tracking.executions import Order, current_owner
from graftline.registry.tracking.store import configure

_SILENCE_S = 300.0
"""Longer than MLflow waits for a server that has taken a request and does not answer."""
_CLOSE_TIMEOUT_S = 10.0
_QUIET_S = 20.0
_log = logging.getLogger(__name__)


class Recorder:
    """What a stage tells its run through.

    Args:
        workspace: The checkout.
        params: The stage's parameters.
        stage: The stage's name.
    """

    def __init__(self, workspace: Workspace, params: Params, stage: str) -> None:
        store = configure(workspace)
        store.root.mkdir(parents=True, exist_ok=True)
        self.log_file = store.root / "recorder.log"
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                module_command("graftline.registry.tracking.recorder_worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=workspace.root,
                env=_environment(),
                text=True,
                encoding="utf-8",
                # A Ctrl-C or a kill of the stage's process group must not take it along.
                start_new_session=True,
            )
        self._answers: dict[str, Any] = {}
        self._opened = threading.Event()
        self._ended = threading.Event()
        self._requests: SimpleQueue[str | None] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="recorder", daemon=True)
        self._writer = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._reader.start()
        self._writer.start()
        order = Order(
            root=str(workspace.root),
            params=params.model_dump(mode="json", by_alias=True),
            stage=stage,
            held_run_id=os.environ.get(RUN_ID_VARIABLE) or None,
            owner=current_owner(),
        )
        self._lingers = order.lingers
        self._send(order.model_dump(mode="json"))

    @property
    def opened(self) -> bool:
        """Whether there is a run."""
        return "run_id" in self._answers

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Records one epoch.

        Args:
            epoch: Counted from 1.
            metrics: Values by name; an ``epoch`` among them is left out.

        Raises:
            TrackingError: If the store could not be used from the start.
        """
        self._raise_failure()
        if self._opened.is_set() and not self.opened:
            # Better known now than after an hour of training.
            raise self._silent()
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        self._send({"epoch": epoch, "metrics": values})

    def run_id(self) -> str:
        """The run's id; waits until there is one.

        Raises:
            TrackingError: If the store cannot be used.
        """
        self._await(self._opened)
        self._raise_failure()
        if not self.opened:
            raise self._silent()
        return str(self._answers["run_id"])

    def end(self, status: str) -> None:
        """Closes the stage's part of the run, and waits until that is done.

        Raises:
            TrackingError: If the store cannot be used.
        """
        self._send({"end": status})
        self._requests.put(None)
        if not self._ended.wait(_QUIET_S):
            _log.warning("waiting for the tracking store; see %s", self.log_file)
        self._await(self._ended)
        self._close()
        self._raise_failure()
        if "ended" not in self._answers:
            raise self._silent()

    def _await(self, event: threading.Event) -> None:
        """Waits for an answer as long as the helper is at work; one that hangs is killed."""
        watch = Watch(self._process.pid)
        while not event.wait(looks_every_s(_SILENCE_S)):
            if watch.silent_s() > _SILENCE_S:
                self._process.kill()
                event.wait()

    def _close(self) -> None:
        """Leaves the helper to itself: what it still has to do is not this stage's."""
        self._reader.join(_CLOSE_TIMEOUT_S)
        if self._reader.is_alive():
            # It hangs after its last answer, and its pipes would keep this process from ending.
            self._process.kill()
            self._reader.join()
        self._writer.join()
        if self._process.stdout:
            self._process.stdout.close()
        if not self._lingers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_CLOSE_TIMEOUT_S)
        # One that is slow, or goes on until dvc has ended, is nobody's child any more.
        if self._process.poll() is None:
            self._process.returncode = 0

    def _send(self, message: dict[str, Any]) -> None:
        self._requests.put(json.dumps(message) + "\n")

    def _write(self) -> None:
        """Writes what is sent: a helper that does not read must not make the stage wait."""
        stream = self._process.stdin
        if stream is None:
            return
        try:
            with stream:
                for message in iter(self._requests.get, None):
                    stream.write(message)
                    stream.flush()
        except OSError:
            # Losing the live picture is no reason to lose the training; see end().
            _log.warning("the recorder has stopped; see %s", self.log_file)

    def _read(self) -> None:
        try:
            for line in self._process.stdout or ():
                answer = json.loads(line)
                self._answers.update(answer)
                if "run_id" in answer or "error" in answer:
                    self._opened.set()
                if "ended" in answer or "error" in answer:
                    self._ended.set()
        except ValueError:
            _log.warning("the recorder was cut off in the middle of an answer")
        finally:
            self._opened.set()
            self._ended.set()

    def _raise_failure(self) -> None:
        if "error" in self._answers:
            raise error_from_json(json.dumps(self._answers["error"]))

    def _silent(self) -> TrackingError:
        return TrackingError(
            "the process that records the run ended without an answer",
            where=str(self.log_file),
            fix="read the file's end, mend what it says, and run again",
        )


@contextmanager
def stage_recorder(workspace: Workspace, params: Params, stage: str) -> Iterator[Recorder]:
    """Records a stage: into the flow's run, or into that of the execution it belongs to.

    A flow names its run in the environment variable GRAFTLINE_RUN_ID. Otherwise all stages below
    the same ``dvc`` process share a run, which stands FINISHED after each stage that ended well
    and FAILED or KILLED after one that did not. After ``evaluate`` it is complete.

    Raises:
        TrackingError: If the store cannot be used.
    """
    recorder = Recorder(workspace, params, stage)
    try:
        yield recorder
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        try:
            recorder.end(status)
        except GraftlineError as second:
            # The stage's own error is the one that its user must see; it may be this one.
            if str(second) != str(error):
                _log.warning("%s", second)
        raise
    try:
        recorder.end("FINISHED")
    except GraftlineError as error:
        if not recorder.opened:
            raise
        # What the stage has made is whole; its run is completed from the outputs later.
        _log.warning("the tracked run is not complete: %s", error)


def _environment() -> dict[str, str]:
    # The helper imports the same Graftline, wherever the workspace is.
    source = str(Path(graftline.__file__).parents[1])
    if source in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return dict(os.environ)
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path}
