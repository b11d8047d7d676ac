"""Task ``choose_model``: has the files of the model that is to predict brought here."""

from __future__ import annotations

from prefect.logging import get_run_logger

from graftline.core.errors import TrackingError
from graftline.core.workspace import Workspace
from graftline.inference import model_choice
from graftline.inference.model_choice import ChosenModel
from graftline.orchestration.predict_run import Request, params, telling
from graftline.orchestration.retry import tried_again
from graftline.orchestration.stage_task import step


# A busy or absent registry may come back; a version that is not there will not.
@step("choose_model", **tried_again(TrackingError))
def choose_model(request: Request) -> ChosenModel:
    """Finds ``request.model``: by default the champion, else the last trained model."""
    workspace = Workspace.here()
    with telling("model") as tell:
        name = params().register_.model_name
        model = model_choice.choose_model(workspace, request.model, name)
        get_run_logger().info(model.introduction)
        tell(model.introduction.removeprefix("model: "))
    return model
