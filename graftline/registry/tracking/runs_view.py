"""Which columns MLflow's list of runs shows at first: a view that an experiment's tag holds.

MLflow keeps the columns that a user has chosen in the browser, and shows no metric before that. A
shared view, which the page's address names, shows others. Its form was read from MLflow 3.17's
pages (``selectedColumns`` and ``columnOrder``); tests/browser looks whether they still take it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient

VIEW = "graftline"
"""What the address names: ``viewStateShareKey=graftline``."""
_TAG = f"mlflow.sharedViewState.{VIEW}"
_METRICS = ("metrics.`test_accuracy`", "metrics.`test_loss`")
_ATTRIBUTES = ("attributes.`Dataset`", "attributes.`Source`", "attributes.`Models`")


def view_tags() -> dict[str, str]:
    """The tag that a new experiment gets."""
    state = {
        "selectedColumns": [*_METRICS, *_ATTRIBUTES],
        # Else the metrics come last, out of sight on most screens.
        "columnOrder": ["attributes.`Run Name`", "runDateAndNestInfo", *_METRICS, *_ATTRIBUTES],
    }
    return {_TAG: json.dumps(state, separators=(",", ":"))}


def ensure_view(client: MlflowClient, experiment: Experiment) -> None:
    """Gives the tag to an experiment that does not have it; one that it has stays as it is."""
    if _TAG not in experiment.tags:
        client.set_experiment_tag(experiment.experiment_id, _TAG, view_tags()[_TAG])
