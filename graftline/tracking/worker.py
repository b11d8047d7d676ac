"""The helper process of a recorder: reads lines of JSON, talks to MLflow, answers in JSON.

It outlives the stage by a moment: if the stage is gone without having said how it ended, the run
is closed as KILLED; and once the ``dvc`` around it is done, the run gets the final ``dvc.lock``.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from graftline.errors import GraftlineError, TrackingError
from graftline.params import Params, params_from_record
from graftline.tracking import contents, executions, runs
from graftline.tracking.store import Store, configure, open_client, reported
from graftline.workspace import Workspace

_OWNER_TIMEOUT_S = 24 * 3600.0
_OWNER_POLL_S = 0.2
_STATUS_TIMEOUT_S = 120.0
_LAST_STAGE = "evaluate"


class Worker:
    """Serves one stage.

    Args:
        order: The recorder's first message.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.workspace = Workspace(Path(order["root"]))
        self.params: Params = params_from_record(order["params"], "params.yaml")
        self.stage: str = order["stage"]
        self.held: bool = order["held_run_id"] is not None
        self.owner = executions.Owner.model_validate(order["owner"])
        self.store: Store = configure(self.workspace)
        self.client, _ = open_client(self.store)
        self.ended = False
        self.run_id: str = order["held_run_id"] or self._join()

    def epoch(self, message: dict[str, Any]) -> None:
        """Logs one epoch. A store that is away for a moment costs the live picture, no more."""
        try:
            with reported(self.store):
                runs.log_epoch(self.client, self.run_id, message["epoch"], message["metrics"])
        except TrackingError as error:
            _complain(f"epoch {message['epoch']} will be logged from history.csv: {error}")

    def end(self, status: runs.Status) -> None:
        """Closes the stage's part of the run."""
        self.ended = True
        if self.held:
            return
        if status == "FINISHED" and self.stage == _LAST_STAGE:
            self._complete()
        elif status == "FINISHED":
            with reported(self.store):
                runs.fill(self.client, self.run_id, self.workspace, self.params, evaluated=False)
        with reported(self.store):
            self.client.set_terminated(self.run_id, status)

    def abandon(self) -> None:
        """The stage is gone: closes what it cannot close any more."""
        with reported(self.store):
            if not self.held:
                self.client.set_terminated(self.run_id, "KILLED")
            runs.close_abandoned(self.store, self.client)

    def await_owner(self) -> None:
        """Waits for the ``dvc`` around the stage, and tells the run how things stand then."""
        if self.held or self.owner.door == "command line":
            return
        give_up_s = time.monotonic() + _OWNER_TIMEOUT_S
        execution = executions.find(self.store, self.owner)
        while execution is not None and execution.alive and time.monotonic() < give_up_s:
            time.sleep(_OWNER_POLL_S)
            execution = executions.find(self.store, self.owner)
        if execution is None or execution.stages[-1:] != (self.stage,):
            return
        executions.forget(self.store, self.run_id)
        with reported(self.store):
            if self.stage != _LAST_STAGE and self._evaluation_is_current():
                # Training gave the same bytes again, so DVC had no reason to evaluate them.
                self._complete()
            lock = contents.lock_tag(self.workspace)
            for name, value in lock.items():
                self.client.set_tag(self.run_id, name, value)

    def _join(self) -> str:
        execution = executions.find(self.store, self.owner)
        if execution is None:
            execution = runs.start(self.workspace, self.params, self.owner)
        else:
            with reported(self.store):
                self.client.update_run(execution.run_id, status="RUNNING")
        stages = (*execution.stages, self.stage)
        executions.keep(self.store, execution.model_copy(update={"stages": stages}))
        return execution.run_id

    def _complete(self) -> None:
        execution = executions.find(self.store, self.owner)
        ran = execution.stages if execution else (self.stage,)
        cached = [stage for stage in ("train",) if stage not in ran]
        runs.complete_run(self.run_id, self.workspace, self.params, cached)

    def _evaluation_is_current(self) -> bool:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "status", "--json", _LAST_STAGE],
            cwd=self.workspace.root,
            capture_output=True,
            text=True,
            timeout=_STATUS_TIMEOUT_S,
            check=False,
        )
        return done.returncode == 0 and json.loads(done.stdout or "null") == {}


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Serves the stage that writes to ``requests`` until it ends or is gone."""
    try:
        worker = Worker(json.loads(requests.readline()))
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
    if worker.ended:
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
    """Runs as ``python -m graftline.tracking.worker``."""
    # It ends with its stage, which closes the pipe; a signal meant for the stage is none for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        serve(sys.stdin, sys.stdout)
    except GraftlineError as error:
        _complain(str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
