"""Names of flow runs that say what was run."""

from __future__ import annotations

from prefect.runtime import flow_run

from graftline.core.params import Params, read_params
from graftline.core.workspace import Workspace


def flow_run_name() -> str:
    """As in ``train mnist-5k, stanford-dogs 1 at 96 px, frozen: all``."""
    params = flow_run.parameters.get("params")
    if not isinstance(params, Params):
        params = read_params(Workspace.here().params_file)
    strategy = params.freeze.model_dump(mode="json")["strategy"]
    if isinstance(strategy, dict):
        strategy = ", ".join(f"{name} {value}" for name, value in strategy.items())
    return (
        f"train {params.data.source}, {params.backbone.weights} at {params.preprocess.size_px} px, "
        f"freeze {strategy}"
    )


def prediction_name() -> str:
    """As in ``predict photos by challenger``; without a name of the model, what is predicted."""
    request = flow_run.parameters["request"]
    more = f" and {len(request.paths) - 1} more" if len(request.paths) > 1 else ""
    by = "" if request.model is None else f" by {request.model}"
    return f"predict {request.paths[0]}{more}{by}"
