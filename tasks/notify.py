"""Task ``notify``: tells a command or an address of the verdict; it never makes a flow fail."""

from __future__ import annotations

import os
import time

from prefect import State as PrefectState
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import flow_run, task_run

from graftline.core.environment import tracking_address
from graftline.core.errors import GraftlineError, NotificationError
from graftline.core.redaction import without_secrets
from graftline.orchestration import pipeline
from graftline.orchestration.retry import tried_again
from graftline.orchestration.screen import StepEnd
from graftline.steps import notify as notifications

_DELAYS_S = (5.0, 30.0)


def notify() -> None:
    """Tells each channel that ``notify`` in the parameters names; without one, it does nothing.

    A notification that fails after all its tries is a warning: the model is registered, the
    champion chosen, and the next run tells of it.
    """
    execution = pipeline.current()
    if not notifications.channels(execution.params.notify):
        return
    started_s = time.monotonic()
    state: PrefectState[str] = _notify(return_state=True)
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, BaseException):
        what = outcome.what if isinstance(outcome, GraftlineError) else type(outcome).__name__
        get_run_logger().warning(what)
        execution.screen.say(f"  warning: {what}")
        return
    seconds = time.monotonic() - started_s
    execution.screen.end(StepEnd("notify", "executed", seconds, str(outcome)))


@task(
    name="notify",
    task_run_name="notify",
    cache_policy=NO_CACHE,
    **tried_again(NotificationError, _DELAYS_S),
)
def _notify() -> str:
    execution = pipeline.current()
    if (run_id := str(task_run.id)) not in execution.task_run_ids:
        execution.task_run_ids.append(run_id)
    told = notifications.message(execution.workspace, _addresses())
    channels = notifications.notify(execution.workspace, execution.params.notify, told)
    text = f"{', '.join(channels)}: {told['text']}" if channels else "told of this before"
    get_run_logger().info(text)
    return text


def _addresses() -> dict[str, str]:
    """Where to look: run ids, and pages where there is a server that stays."""
    found = {"prefect": str(flow_run.id)}
    if page := flow_run.ui_url:
        found["prefect_page"] = without_secrets(str(page))
    if tracking := tracking_address(os.environ):
        # Without a password, which may stand before the host.
        scheme, _, rest = tracking.partition("://")
        found["mlflow_server"] = without_secrets(f"{scheme}://{rest.rpartition('@')[2]}")
    return found
