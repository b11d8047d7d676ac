"""Task ``predict``: has the files predicted, part by part."""

from __future__ import annotations

from prefect.logging import get_run_logger

from graftline.core.counts import counted
from graftline.core.markdown import class_table, table
from graftline.inference.batch import writer as predicting
from graftline.inference.batch.writer import UNSURE_BELOW, Batch
from graftline.inference.model_choice import ChosenModel
from graftline.orchestration import publish
from graftline.orchestration.predict_run import Request, params, telling
from graftline.orchestration.stage_task import step


@step("predict")
def predict(request: Request, model: ChosenModel) -> Batch:
    """Writes ``request.out``; leaves the counts of each label as an artifact."""
    with telling("predict") as tell:
        given = params()
        batch = predicting.predict_files(
            model, request.paths, request.out, given.data.max_image_px, device=given.compute.device
        )
        _publish(batch)
        text = _sentence(batch)
        get_run_logger().info(text)
        tell(text)
    return batch


def _sentence(batch: Batch) -> str:
    text = counted(batch.images, "image")
    if batch.resumed:
        text += f" ({batch.resumed:,} of them before this start)"
    if batch.resumed < batch.images:
        text += f", {batch.images_per_s:,.0f} a second"
    return text


def _publish(batch: Batch) -> None:
    facts = [
        ("file", f"`{batch.predictions}`"),
        ("model", f"{batch.model} {batch.model_version}"),
        ("images", batch.images),
        ("could not be read", batch.unread),
        ("no images, left out", sum(batch.left_out.values())),
        (f"unsure (below {UNSURE_BELOW:g})", batch.unsure),
        ("images per second", f"{batch.images_per_s:,.0f}"),
    ]
    publish.markdown(
        "predictions",
        f"{table(['predictions', 'are'], facts)}\n\n"
        + class_table(
            ["label", "images"],
            list(batch.labels.items()),
            worth=lambda row: -batch.labels[str(row[0])],
            which="with the most images",
            all_in=batch.predictions,
        ),
        "How many images got each label, and where the answers are",
    )
