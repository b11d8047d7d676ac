"""Task ``promote``: lets the new model become the champion, if it passes the gate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from prefect.logging import get_run_logger
from prefect.runtime import task_run

from graftline.core.errors import TrackingError
from graftline.orchestration import pipeline, publish
from graftline.orchestration.screen import State, StepEnd
from graftline.orchestration.stage_task import concluded, step

if TYPE_CHECKING:
    from graftline.core.records.register import Registered
    from graftline.registry.promotions import Promotion

_RETRY_DELAYS_S = [2.0, 10.0]


def _can_pass(_task: Any, _run: Any, state: Any) -> bool:
    # A busy or absent registry may come back; so does another champion than a moment ago.
    return isinstance(state.result(raise_on_failure=False), TrackingError)


@step(
    "promote",
    retries=len(_RETRY_DELAYS_S),
    retry_delay_seconds=_RETRY_DELAYS_S,
    retry_condition_fn=_can_pass,
)
def promote(registered: Registered) -> Promotion:
    """Compares ``registered`` with the champion; the better one, or the safer one, is it then."""
    from graftline.registry.promotion_report import line, markdown
    from graftline.steps import promote as gate

    execution = pipeline.current()
    if (run_id := str(task_run.id)) not in execution.task_run_ids:
        execution.task_run_ids.append(run_id)
    started_s = time.monotonic()
    with execution.timings.span("step promote"), execution.screen.step("promote"):
        promotion = gate.promote(
            execution.workspace, execution.params, registered, execution.run_id
        )
        publish.markdown("promotion", markdown(promotion), "Challenger against champion")
        text = line(promotion)
        get_run_logger().info(text)
    state: State = "cached" if promotion.repeated else "executed"
    execution.screen.end(StepEnd("promote", state, time.monotonic() - started_s, text))
    return concluded(promotion, state)
