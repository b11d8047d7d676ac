"""Task ``train``: has what is not frozen trained."""

from __future__ import annotations

from graftline.core.markdown import table
from graftline.core.records import Assembled, Features, FreezePlan, Trained
from graftline.core.summaries import sentence
from graftline.core.workspace import Workspace
from graftline.orchestration import publish
from graftline.orchestration.stage_task import run_stage, step
from graftline.training.history import read_history

_DIGITS = 4


@step("train")
def train(features: Features, network: Assembled, plan: FreezePlan) -> Trained:
    """Trains on ``features``, or on images; leaves the epochs as an artifact."""
    return run_stage("train", Trained, _publish)


def _publish(workspace: Workspace, trained: Trained) -> None:
    rows = read_history(workspace)
    shown = [[_shortened(cell) for cell in row.values()] for row in rows]
    publish.markdown(
        "training",
        f"{sentence(trained)}; {trained.trainable_params:,} weights trained, "
        f"{trained.frozen_params:,} stayed frozen.\n\n{table(list(rows[0]), shown)}",
        "Loss and accuracy by epoch, and which epoch's weights were kept",
    )


def _shortened(cell: str) -> str:
    try:
        return cell if cell.isdigit() else f"{float(cell):.{_DIGITS}g}"
    except ValueError:
        return cell
