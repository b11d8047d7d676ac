"""Task ``preprocess``: has every image shrunk to the network's size and packed."""

from __future__ import annotations

from graftline.core.markdown import table
from graftline.core.records import Dataset, Preprocessed
from graftline.core.summaries import sentence
from graftline.core.workspace import Workspace
from graftline.orchestration import publish
from graftline.orchestration.stage_task import run_stage, step


@step("preprocess")
def preprocess(dataset: Dataset) -> Preprocessed:
    """Packs the images of ``dataset``; leaves their size and counts as an artifact."""
    return run_stage("preprocess", Preprocessed, _publish)


def _publish(workspace: Workspace, images: Preprocessed) -> None:
    publish.markdown(
        "preprocessed-images",
        f"{sentence(images)}.\n\n{table(['split', 'images'], images.counts.items())}",
        "The images as the network takes them",
    )
