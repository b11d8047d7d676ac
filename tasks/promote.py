"""Task ``promote``: lets the new model become the champion, if it passes the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graftline.core.errors import TrackingError
from graftline.orchestration import publish
from graftline.orchestration.pipeline import Pipeline
from graftline.orchestration.retry import tried_again
from graftline.orchestration.stage_task import Done, run_step, step

if TYPE_CHECKING:
    from graftline.core.records.register import Registered
    from graftline.registry.promotions import Promotion


# A busy or absent registry may come back; so does another champion than a moment ago.
@step("promote", **tried_again(TrackingError))
def promote(registered: Registered) -> Promotion:
    """Compares ``registered`` with the champion; the better one, or the safer one, is it then."""
    from graftline.registry.promotion_report import line, markdown
    from graftline.steps import promote as gate

    def work(execution: Pipeline) -> Done[Promotion]:
        promotion = gate.promote(
            execution.workspace, execution.params, registered, execution.run_id
        )
        publish.markdown("promotion", markdown(promotion), "Challenger against champion")
        return promotion, "cached" if promotion.repeated else "executed", line(promotion)

    return run_step("promote", work)
