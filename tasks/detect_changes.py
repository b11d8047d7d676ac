"""Task ``look``: finds out whether there is anything to train for."""

from __future__ import annotations

import time

from prefect.logging import get_run_logger
from prefect.runtime import task_run

from graftline.operations.changes import News
from graftline.orchestration import pipeline
from graftline.orchestration.screen import StepEnd
from graftline.orchestration.stage_task import step


@step("look")
def look() -> News:
    """Compares images, parameters and code with those of the last training."""
    execution = pipeline.current()
    execution.task_run_ids.append(str(task_run.id))
    started_s = time.monotonic()
    with execution.timings.span("step look"), execution.screen.step("look"):
        news = execution.news
        get_run_logger().info(str(news))
    seconds = time.monotonic() - started_s
    execution.screen.end(StepEnd("look", "executed", seconds, str(news)))
    return news
