"""Task ``export``: has the trained model brought into other formats and held against itself."""

from __future__ import annotations

from graftline.core.records import Exports, Preprocessed, Trained
from graftline.core.workspace import Workspace
from graftline.formats.speeds import read_speeds
from graftline.formats.table import markdown
from graftline.orchestration import publish
from graftline.orchestration.stage_task import run_stage, step


@step("export")
def export(images: Preprocessed, trained: Trained) -> Exports:
    """Exports ``trained``, measured on the test split of ``images``; leaves the table."""
    return run_stage("export", Exports, _publish)


def _publish(workspace: Workspace, exports: Exports) -> None:
    if exports.exported:
        publish.markdown(
            "exports",
            markdown(exports, read_speeds(workspace, exports)),
            "The model in other formats, each held against the original on the whole test split",
        )
