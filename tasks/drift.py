"""Task ``drift``: has the batch compared with the training images, and tells of an alarm."""

from __future__ import annotations

from pathlib import Path

from prefect.events import emit_event
from prefect.logging import get_run_logger

from graftline.inference.batch.writer import Batch, sample
from graftline.inference.drift.decision import Drift
from graftline.inference.drift.report import (
    PICTURE,
    SHOWN,
    TEXT,
    report_drift,
    report_folder,
    sentence,
)
from graftline.inference.model_choice import ChosenModel
from graftline.orchestration import publish
from graftline.orchestration.predict_run import params, telling
from graftline.orchestration.stage_task import step

EVENT = "graftline.drift"


@step("drift")
def drift(batch: Batch, model: ChosenModel) -> Drift:
    """Writes the report beside the predictions; above the threshold it emits an event."""
    with telling("drift") as tell:
        out = Path(batch.predictions)
        found = report_drift(
            model, sample(out, list(batch.labels)), batch.labels, params().drift, report_folder(out)
        )
        if found.alarm:
            _emit(found, batch)
        _publish(batch)
        get_run_logger().info(sentence(found))
        tell(sentence(found))
    return found


def _emit(found: Drift, batch: Batch) -> None:
    """An event that an automation can act on, such as one that starts a retraining."""
    emit_event(
        event=EVENT,
        resource={
            "prefect.resource.id": f"graftline.model.{batch.model}",
            "prefect.resource.name": batch.model,
            "graftline.model_version": batch.model_version,
        },
        payload={
            "predictions": batch.predictions,
            "report": str(report_folder(Path(batch.predictions))),
            "images": batch.images,
            "share": found.share,
            "threshold": found.threshold,
            "labels_distance": found.labels_distance,
        },
    )


def _publish(batch: Batch) -> None:
    folder = report_folder(Path(batch.predictions))
    text = (folder / TEXT).read_text(encoding="utf-8")
    picture = folder / PICTURE
    if picture.is_file():
        text = text.replace(SHOWN, publish.picture(picture))
    publish.markdown("drift", text, "The batch beside the training images")
