"""Task ``extract``: has the frozen part run once over every image."""

from __future__ import annotations

from graftline.core.markdown import table
from graftline.core.records import Assembled, Features, FreezePlan, Preprocessed
from graftline.core.summaries import sentence
from graftline.core.workspace import Workspace
from graftline.orchestration import publish
from graftline.orchestration.stage_task import run_stage, step
from graftline.training.label_safety import LABEL_SAFETY, LabelSafety, safety_rows


@step("extract")
def extract(images: Preprocessed, network: Assembled, plan: FreezePlan) -> Features:
    """Caches what the frozen part of ``network`` makes of ``images``."""
    return run_stage("extract", Features, _publish)


def _publish(workspace: Workspace, features: Features) -> None:
    text = f"{sentence(features)}.\n\n{table(['split', 'images'], features.counts.items())}"
    path = workspace.features / LABEL_SAFETY
    if path.is_file():
        columns = ["augmentation", "right answers", "turn wrong", "unsafe classes"]
        rows = safety_rows(LabelSafety.read(path))
        text = f"{text}\n\n{table(columns, rows)}"
    publish.markdown("features", text, "What the frozen part makes of each image, computed once")
