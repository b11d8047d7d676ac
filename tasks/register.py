"""Task ``register``: puts the model into MLflow's registry; the one step that is no DVC stage."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from prefect.logging import get_run_logger
from prefect.runtime import task_run

from graftline.core.errors import TrackingError
from graftline.core.records import Metrics, Trained
from graftline.orchestration import pipeline, publish
from graftline.orchestration.screen import State, StepEnd
from graftline.orchestration.stage_task import concluded, step

if TYPE_CHECKING:
    from graftline.core.records.register import Registered

_RETRY_DELAYS_S = [2.0, 10.0]


def _can_pass(_task: Any, _run: Any, state: Any) -> bool:
    # A busy or absent registry may come back; an output that is missing will not.
    return isinstance(state.result(raise_on_failure=False), TrackingError)


@step(
    "register",
    retries=len(_RETRY_DELAYS_S),
    retry_delay_seconds=_RETRY_DELAYS_S,
    retry_condition_fn=_can_pass,
)
def register(trained: Trained, metrics: Metrics) -> Registered:
    """Makes ``trained`` the newest version of its name, unless it is that already."""
    from graftline.steps import register as registry

    execution = pipeline.current()
    if (run_id := str(task_run.id)) not in execution.task_run_ids:
        execution.task_run_ids.append(run_id)
    started_s = time.monotonic()
    with execution.timings.span("step register"), execution.screen.step("register"):
        registered = registry.register(execution.workspace, execution.params, execution.run_id)
        _publish(registered)
        text = str(registered)
        get_run_logger().info(text)
    state: State = "cached" if registered.already_registered else "executed"
    execution.screen.end(StepEnd("register", state, time.monotonic() - started_s, text))
    return concluded(registered, state)


def _publish(registered: Registered) -> None:
    facts = [
        ("name", registered.model_name),
        ("version", registered.version),
        ("alias", registered.alias),
        ("from run", f"`{registered.run_id}`"),
    ]
    publish.markdown(
        "registered-model",
        f"{publish.table(['model', 'is'], facts)}\n\n"
        "```python\nimport mlflow\n\n"
        f'model = mlflow.pyfunc.load_model("{registered.model_uri}")\n'
        "model.predict(images)  # uint8, (n, height, width, channels)\n```",
        "The model's version in the registry, and how to load it",
    )
