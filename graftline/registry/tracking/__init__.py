"""History: what MLflow is told about every execution of the pipeline.

This package is the only one that imports MLflow, and only inside the functions that need it: a
process that merely asks :func:`stage_recorder` to record leaves the import to a helper process.
"""

from graftline.registry.tracking.aliases import (
    CHAMPION,
    champion_lock,
    fetch_from_run,
    log_file,
    log_receipt,
    move_champion,
    tag_version,
)
from graftline.registry.tracking.downloads import (
    PastRun,
    all_versions,
    fetch_model,
    find_run,
    find_version,
)
from graftline.registry.tracking.last_run_file import LastRun, last_run, note_flow_run
from graftline.registry.tracking.recorder import Recorder, stage_recorder
from graftline.registry.tracking.registry import register_model
from graftline.registry.tracking.runs import complete_run, open_run
from graftline.registry.tracking.store import Store, configure, store_exists
from graftline.registry.tracking.versions import Version

__all__ = [
    "CHAMPION",
    "LastRun",
    "PastRun",
    "Recorder",
    "Store",
    "Version",
    "all_versions",
    "champion_lock",
    "complete_run",
    "configure",
    "fetch_from_run",
    "fetch_model",
    "find_run",
    "find_version",
    "last_run",
    "log_file",
    "log_receipt",
    "move_champion",
    "note_flow_run",
    "open_run",
    "register_model",
    "stage_recorder",
    "store_exists",
    "tag_version",
]
