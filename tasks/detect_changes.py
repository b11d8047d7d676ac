"""Task ``look``: finds out whether there is anything to train for."""

from __future__ import annotations

from graftline.operations.changes import News
from graftline.orchestration.pipeline import Pipeline
from graftline.orchestration.stage_task import Done, run_step, step


@step("look")
def look() -> News:
    """Compares images, parameters and code with those of the last training."""

    def work(execution: Pipeline) -> Done[News]:
        news = execution.news
        return news, "executed", str(news)

    return run_step("look", work)
