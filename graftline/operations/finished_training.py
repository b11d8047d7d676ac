"""The checkpoint of a finished training stays until DVC has written down what came of it.

After the last epoch the recorder, the disk or DVC can still fail. The stage that runs again then
goes on from the checkpoint, and has the same result in seconds.
"""

from __future__ import annotations

import os
from typing import ClassVar

from graftline.core.dvc_lock import LOCK_FILE
from graftline.core.records import Record
from graftline.core.workspace import Workspace


class FinishedTraining(Record):
    """``var/checkpoints/train/finished.json``: a training has come to its end."""

    lies_at: ClassVar[str] = "var/checkpoints/train/finished.json"

    lock: tuple[int, ...]
    """Which ``dvc.lock`` lay there then; DVC replaces it when it writes a stage down."""


def note_finished(workspace: Workspace) -> None:
    """The training has come to its end: keeps the checkpoint if DVC has still to write it down."""
    if "DVC_STAGE" not in os.environ:
        forget(workspace)
    elif workspace.checkpoint.exists():
        FinishedTraining(lock=_stamp(workspace)).write(FinishedTraining.path_in(workspace))


def forget_if_recorded(workspace: Workspace) -> None:
    """Removes the checkpoint of a finished training that DVC has written down since."""
    finished = FinishedTraining.find_in(workspace)
    if finished is not None and finished.lock != _stamp(workspace):
        forget(workspace)


def forget(workspace: Workspace) -> None:
    """Removes the checkpoint, whose training is over."""
    workspace.checkpoint.unlink(missing_ok=True)
    FinishedTraining.path_in(workspace).unlink(missing_ok=True)


def _stamp(workspace: Workspace) -> tuple[int, ...]:
    try:
        status = (workspace.root / LOCK_FILE).stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns
