"""The common part of every step's task: it runs the stage, reads the record, and sets the state."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from prefect import State as PrefectState
from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import task_run
from prefect.states import Completed

from graftline.core.records import Record
from graftline.core.silence import SILENCE_S
from graftline.core.stages import STAGES
from graftline.core.summaries import sentence
from graftline.core.workspace import Workspace
from graftline.orchestration import pipeline
from graftline.orchestration.pipeline import Pipeline
from graftline.orchestration.screen import State, StepEnd

P = ParamSpec("P")
R = TypeVar("R", bound=Record)
Done = tuple[R, State, str]
"""What a step's work comes to: its record, how that came about, and a line on it."""

# A profile of the user's may have other defaults: a computation is tried once, and nothing of it is
# pickled and kept.
_PLAIN = {"retries": 0, "persist_result": False}
_MESSAGES = {
    "cached": "nothing that it depends on has changed",
    "restored": "its outputs came from DVC's cache",
}


def step(name: str, **options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function the Prefect task of a step; Prefect's own result cache is off.

    Args:
        name: The step's name, which its task runs bear too.
        options: Further ones of Prefect's ``task``.
    """

    def coated(function: Callable[P, R]) -> Callable[P, R]:
        prefect_task = Task(
            function, name=name, task_run_name=name, cache_policy=NO_CACHE, **{**_PLAIN, **options}
        )

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            if name in STAGES:
                for own in pipeline.current().own_before(name):
                    run_own_stage(own)
            returned: Any = prefect_task(*args, **kwargs)
            # Of a task that ends in a state of its own, Prefect returns just that.
            return cast(R, returned.result() if isinstance(returned, PrefectState) else returned)

        return run

    return coated


def run_stage(
    stage: str, kind: type[R], publish: Callable[[Workspace, R], None], silence_s: float = SILENCE_S
) -> R:
    """Runs the stage of the task that calls it.

    Args:
        stage: The step's name.
        kind: The record that the step writes.
        publish: Leaves the task's artifacts.
        silence_s: How long the stage may give no sign of life before it is stopped, in seconds.
            However long it works, it is not.

    Returns:
        What the task has to return; see :func:`concluded`.

    Raises:
        GraftlineError: If the stage fails.
    """

    def work(execution: Pipeline, show: Callable[[str], None]) -> Done[R]:
        def on_line(line: str) -> None:
            get_run_logger().info(line)
            show(line)

        state = execution.run_stage(stage, silence_s, on_line)
        record = kind.read_in(execution.workspace)
        publish(execution.workspace, record)
        return record, state, sentence(record)

    return _run(stage, work)


def run_own_stage(stage: str) -> None:
    """Runs a stage of the project's own, which has no task in ``tasks/``, as a task of its name.

    Raises:
        GraftlineError: If the stage fails.
    """

    def work(execution: Pipeline, show: Callable[[str], None]) -> tuple[Any, State, str]:
        last = ""

        def on_line(line: str) -> None:
            nonlocal last
            last = line
            get_run_logger().info(line)
            show(line)

        state = execution.run_stage(stage, SILENCE_S, on_line)
        return None, state, last

    @step(stage)
    def own() -> Any:
        # Its last line stands for what came out, and has been logged.
        return _run(stage, work, logs=False)

    own()


def run_step(name: str, work: Callable[[Pipeline], Done[R]]) -> R:
    """Runs a step that is no stage of DVC's, in the task that calls it.

    Args:
        name: The step's.
        work: Does it; gives the record, how it came about, and a line on it.

    Returns:
        What the task has to return; see :func:`concluded`.
    """
    return _run(name, lambda execution, _: work(execution))


def _run(
    name: str, work: Callable[[Pipeline, Callable[[str], None]], Done[R]], *, logs: bool = True
) -> R:
    execution = pipeline.current()
    # Each try of a task has the same number.
    if (run_id := str(task_run.id)) not in execution.task_run_ids:
        execution.task_run_ids.append(run_id)
    started_s = time.monotonic()
    with execution.timings.span(f"step {name}"), execution.screen.step(name) as show:
        record, state, text = work(execution, show)
        if logs:
            get_run_logger().info(text)
    execution.screen.end(StepEnd(name, state, time.monotonic() - started_s, text))
    return concluded(record, state)


def concluded(record: R, state: State) -> R:
    """What a task returns to end in the state that says how its record came about."""
    if state == "executed":
        return record
    name = state.capitalize()
    returned: Any = Completed(name=name, message=_MESSAGES[state], data=cast(Any, record))
    return cast(R, returned)
