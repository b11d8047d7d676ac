"""Task ``register``: puts the model into MLflow's registry; the one step that is no DVC stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graftline.core.errors import TrackingError
from graftline.core.markdown import table
from graftline.core.records import Metrics, Trained
from graftline.orchestration import publish
from graftline.orchestration.pipeline import Pipeline
from graftline.orchestration.retry import tried_again
from graftline.orchestration.screen import State
from graftline.orchestration.stage_task import Done, run_step, step

if TYPE_CHECKING:
    from graftline.core.records.register import Registered


# A busy or absent registry may come back; an output that is missing will not.
@step("register", **tried_again(TrackingError))
def register(trained: Trained, metrics: Metrics) -> Registered:
    """Makes ``trained`` the newest version of its name, unless it is that already."""
    from graftline.steps import register as registry

    def work(execution: Pipeline) -> Done[Registered]:
        registered = registry.register(execution.workspace, execution.params, execution.run_id)
        _publish(registered)
        state: State = "cached" if registered.already_registered else "executed"
        return registered, state, str(registered)

    return run_step("register", work)


def _publish(registered: Registered) -> None:
    facts = [
        ("name", registered.model_name),
        ("version", registered.version),
        ("alias", registered.alias),
        ("from run", f"`{registered.run_id}`"),
    ]
    publish.markdown(
        "registered-model",
        f"{table(['model', 'is'], facts)}\n\n"
        "```python\nimport mlflow\n\n"
        f'model = mlflow.pyfunc.load_model("{registered.model_uri}")\n'
        "model.predict(images)  # uint8, (n, height, width, channels)\n```",
        "The model's version in the registry, and how to load it",
    )
