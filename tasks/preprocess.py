"""Task ``preprocess``: has every image shrunk to the network's size and packed."""

from __future__ import annotations

from graftline.artifacts import Dataset, Preprocessed
from graftline.summaries import sentence
from graftline.workspace import Workspace
from tasks import publish
from tasks.coat import run_stage, step


@step("preprocess")
def preprocess(dataset: Dataset) -> Preprocessed:
    """Packs the images of ``dataset``; leaves their size and counts as an artifact."""
    return run_stage(
        "preprocess",
        Preprocessed,
        lambda workspace: workspace.preprocessed / "preprocessed.json",
        publish=_publish,
    )


def _publish(workspace: Workspace, images: Preprocessed) -> None:
    publish.markdown(
        "preprocessed-images",
        f"{sentence(images)}.\n\n{publish.table(['split', 'images'], images.counts.items())}",
        "The images as the network takes them",
    )
