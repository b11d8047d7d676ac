"""What every step's task shares: its stage is run, its record read, its state told as it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from prefect.logging import get_run_logger
from prefect.runtime import task_run
from prefect.states import Completed

from graftline.artifacts import Record
from graftline.summaries import sentence
from graftline.workspace import Workspace
from tasks import pipeline
from tasks.screen import State, StepEnd

R = TypeVar("R", bound=Record)

MINUTE_S = 60.0
HOUR_S = 60 * MINUTE_S

_MESSAGES = {
    "cached": "nothing that it depends on has changed",
    "restored": "its outputs came from DVC's cache",
}


def run_stage(
    stage: str,
    kind: type[R],
    record_file: Callable[[Workspace], Path],
    *,
    limit_s: float,
    publish: Callable[[Workspace, R], None],
) -> R:
    """Runs the stage of the task that calls it.

    Args:
        stage: The step's name.
        kind: The record that the step writes.
        record_file: Where.
        limit_s: Seconds after which the stage is stopped.
        publish: Leaves the task's artifacts.

    Returns:
        What the task has to return: Prefect turns a state into its record for the next task.

    Raises:
        GraftlineError: If the stage fails.
    """
    execution = pipeline.current()
    execution.task_run_ids.append(str(task_run.id))
    logger = get_run_logger()
    started_s = time.monotonic()
    with execution.screen.step(stage) as show:

        def on_line(line: str) -> None:
            logger.info(line)
            show(line)

        state = execution.run_stage(stage, limit_s, on_line)
        record = kind.read(record_file(execution.workspace))
        publish(execution.workspace, record)
        text = sentence(record)
        logger.info(text)
    execution.screen.end(StepEnd(stage, state, time.monotonic() - started_s, text))
    return concluded(record, state)


def concluded(record: R, state: State) -> R:
    """A record in the Prefect state that says how it came about.

    A task that returns a state hands on the state's data, so callers get the record.
    """
    if state == "executed":
        return record
    name = state.capitalize()
    returned: Any = Completed(name=name, message=_MESSAGES[state], data=cast(Any, record))
    return cast(R, returned)
