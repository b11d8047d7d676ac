"""The helper process of a recorder: reads lines of JSON, talks to MLflow, answers in JSON.

It outlives the stage by a moment: if the stage is gone without having said how it ended, the run
is closed as KILLED; and once the ``dvc`` around it is done, the run gets the final ``dvc.lock``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

from graftline.core.dvc_lock import read_lock, reads_what_others_wrote
from graftline.core.environment import patience_s
from graftline.core.errors import GraftlineError, TrackingError
from graftline.core.params import Params, params_from_record
from graftline.core.stage_params import params_as_used, refuse_changed
from graftline.core.workspace import Workspace
from graftline.registry.tracking import executions, run_contents, runs
from graftline.registry.tracking.store import Store, configure, open_client, probe, reported

_OWNER_POLL_S = 0.1
_LAST_STAGE = "evaluate"


class Worker:
    """Serves one stage.

    Args:
        order: The recorder's first message.
    """

    def __init__(self, order: executions.Order) -> None:
        self.stage = order.stage
        self.owner = order.owner
        self.held = order.held_run_id is not None
        self.lingers = order.lingers
        self.workspace = Workspace(Path(order.root))
        self.params: Params = params_from_record(order.params, "params.yaml")
        self.store: Store = configure(self.workspace)
        begun = self.held or executions.find(self.store, self.owner) is not None
        self.client, _ = open_client(self.store, patience_s() if begun else 0.0)
        self.ended: runs.Status | None = None
        self.ran: tuple[str, ...] = ()
        self.run_id = order.held_run_id or self._join()

    def epoch(self, message: dict[str, Any]) -> None:
        """Logs one epoch. A store that is away for a moment costs the live picture, no more."""
        try:
            # MLflow would try for minutes, and all further epochs wait.
            probe(self.store)
            with reported(self.store):
                runs.log_epoch(self.client, self.run_id, message["epoch"], message["metrics"])
        except TrackingError as error:
            _complain(f"epoch {message['epoch']} will be logged from history.csv: {error}")

    def end(self, status: runs.Status) -> None:
        """Closes the stage's part of the run."""
        self.ended = status
        if self.held:
            return
        with reported(self.store):
            if status == "FINISHED":
                self._fill(evaluated=self.stage == _LAST_STAGE)
            runs.close(self.store, self.client, self.run_id, status)

    def abandon(self) -> None:
        """The stage is gone: closes what it cannot close any more."""
        with reported(self.store):
            if not self.held:
                runs.close(self.store, self.client, self.run_id, "KILLED")
            runs.close_abandoned(self.store, self.client)

    def await_owner(self) -> None:
        """Waits for the ``dvc`` around the stage, and tells the run how things stand then."""
        if not self.lingers or not self.store.root.is_relative_to(self.workspace.root.resolve()):
            # A copy that dvc works in is removed when it has ended.
            return
        stages = self._stages_when_over()
        if stages[-1:] != (self.stage,):
            # The stage after this one has taken over.
            return
        executions.forget(self.store, self.run_id)
        if self.ended != "FINISHED":
            return
        # Training may give the same bytes again; then DVC has no reason to evaluate them.
        locked = read_lock(self.workspace.root)
        evaluated = self.stage == _LAST_STAGE or reads_what_others_wrote(locked, _LAST_STAGE)
        with reported(self.store):
            self._fill(evaluated=evaluated)

    def _join(self) -> str:
        execution = executions.find(self.store, self.owner)
        if execution is None:
            if self.owner.door != "command line":
                self.params = params_as_used(self.workspace, self.stage, self.params)
            execution = runs.start(self.workspace, self.params, self.owner)
        else:
            if execution.params:
                # What this stage does not read may have been changed for the next execution.
                self.params = params_from_record(execution.params, "params.yaml")
                refuse_changed(self.workspace, self.stage, self.params)
            with reported(self.store):
                runs.reopen(self.store, self.client, execution.run_id)
        self.ran = (*execution.stages, self.stage)
        executions.keep(self.store, execution.model_copy(update={"stages": self.ran}))
        return execution.run_id

    def _fill(self, *, evaluated: bool) -> None:
        runs.fill(self.client, self.run_id, self.workspace, self.params, evaluated=evaluated)
        ran = self.ran if evaluated else (*self.ran, _LAST_STAGE)
        started = self.owner.process.started
        cached = run_contents.cached_stages(self.workspace, started, ran)
        runs.note_cached(self.client, self.run_id, self.workspace, cached, started)

    def _stages_when_over(self) -> tuple[str, ...]:
        stages: tuple[str, ...] = ()
        while True:
            execution = executions.find(self.store, self.owner)
            # Another execution may tidy the record away a moment after dvc has ended.
            if execution is not None:
                stages = execution.stages
            if stages[-1:] != (self.stage,) or not self.owner.process.alive():
                return stages
            time.sleep(_OWNER_POLL_S)


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Serves the stage that writes to ``requests`` until it ends or is gone."""
    first = requests.readline()
    if not first:
        # The stage was gone before it could say what it is.
        return
    try:
        worker = Worker(executions.Order.model_validate_json(first))
        _answer(answers, {"run_id": worker.run_id})
        for line in requests:
            message = json.loads(line)
            if "end" in message:
                worker.end(message["end"])
                _answer(answers, {"ended": message["end"]})
            else:
                worker.epoch(message)
    except GraftlineError as error:
        _answer(answers, {"error": json.loads(error.to_json())})
        raise
    answers.close()
    if worker.ended is not None:
        worker.await_owner()
    else:
        worker.abandon()


def _answer(answers: IO[str], message: dict[str, Any]) -> None:
    try:
        answers.write(json.dumps(message) + "\n")
        answers.flush()
    except BrokenPipeError:
        # The stage is gone; what it was to be told is in the run.
        _complain("the stage has gone before it was answered")


def _complain(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stderr.flush()


def main() -> None:
    """Runs as ``python -m graftline.registry.tracking.recorder_worker``."""
    # It ends with its stage, which closes the pipe; a signal meant for the stage is none for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What MLflow prints goes to the log: the answers have the pipe to themselves.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        serve(sys.stdin, answers)
    except GraftlineError as error:
        _complain(str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
