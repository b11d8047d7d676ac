"""The part of a retraining beside the training: it looks for news first, and tells the result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRunPolicy
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed

from graftline.core.counts import counted
from graftline.core.markdown import table
from graftline.core.records import Metrics
from graftline.operations.changes import News
from graftline.operations.dvc_exp_guard import refuse_experiment
from graftline.orchestration import publish
from graftline.orchestration.pipeline import current, held
from graftline.orchestration.retry import CAN_PASS
from graftline.registry.promotion_report import line
from graftline.registry.promotions import Promotion
from graftline.registry.tracking import last_run


@contextmanager
def attempt(*, force: bool, wait_s: float) -> Iterator[None]:
    """Holds the checkout while it is looked at and, if there is reason to, trained in.

    An error that would come again is not tried again, whatever the deployment's retries are.

    Args:
        force: Whether everything runs, new or not.
        wait_s: How long to wait for another holder of the pipeline, in seconds.

    Raises:
        PipelineBusyError: If another process holds the pipeline.
        GraftlineError: If the source cannot be used, DVC cannot tell what is stale, or
            ``params.yaml`` is what an experiment has left.
    """
    try:
        with held(wait_s=wait_s, force=force) as execution:
            execution.flow_run_id = str(flow_run.id)
            if not force:
                refuse_experiment(execution.workspace)
            yield
    except CAN_PASS:
        raise
    except Exception:
        _update(empirical_policy=FlowRunPolicy(retries=0))
        raise


def outcome_state(news: News, outcome: Promotion | None = None) -> Any:
    """How the flow run ends: Completed, with a message and a name that say what there was.

    Args:
        news: What the task ``look`` found.
        outcome: What the last step returned; None if there was nothing to do.
    """
    _update(name=f"retrain: {news.headline}")
    if outcome is None:
        get_run_logger().info(str(news))
        return Completed(message=str(news), data=None)
    metrics = Metrics.read_in(current().workspace)
    accuracy = (
        f"test accuracy {metrics.test_accuracy:.2%} ({metrics.test_accuracy_low:.2%} to "
        f"{metrics.test_accuracy_high:.2%}) on {counted(metrics.test_images, 'image')}"
    )
    publish.markdown(
        "retraining",
        table(
            ["retraining", "is"],
            [("because of", news), ("gave", line(outcome)), ("measured", accuracy)],
        ),
        "What there was to train for, and what came of it",
    )
    message = f"{news}. {line(outcome)}; {accuracy}"
    if (run := last_run(current().workspace)) and run.warning:
        message += f". Of note: {run.warning}"
    get_run_logger().info(message)
    return Completed(message=message, data=outcome)


def _update(**changes: Any) -> None:
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(str(flow_run.id)), **changes)
