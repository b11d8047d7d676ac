"""How fast each exported file was on this machine: ``var/timings/exports.json``.

FormatSpeeds differ from run to run, and so have no place among the outputs that DVC keeps.
"""

from __future__ import annotations

from typing import ClassVar

from graftline.core.records import Exports, Record
from graftline.core.workspace import Workspace

ORIGINAL = "original"
"""The name under which ``model.tflite`` stands."""


class FormatSpeed(Record):
    """One file on this machine."""

    sha256: str
    """Of the file, as in its record: another file has another speed."""
    images_per_second: float
    """Over the whole test split, all cores, after a first batch."""
    load_s: float
    """Opening the file and answering one image, the runtime being imported."""
    answered_by: str | None = None
    """Which runtime, on what; null in a record of an earlier version."""


class FormatSpeeds(Record):
    """All that were measured together."""

    lies_at: ClassVar[str] = "var/timings/exports.json"

    cores: int
    measured: dict[str, FormatSpeed]
    """By format; the original as ``original``."""


def read_speeds(workspace: Workspace, exports: Exports) -> FormatSpeeds | None:
    """What was measured of just these files on this machine, as far as it was; or None.

    Files that came from DVC's cache have no speed here, unless it was these that were measured.
    """
    speeds = FormatSpeeds.find_in(workspace)
    if exports.original is None or speeds is None:
        return None
    wanted: dict[str, str] = {one.format: one.sha256 for one in exports.exported}
    wanted[ORIGINAL] = exports.original.sha256
    known = {
        name: speed for name, speed in speeds.measured.items() if wanted.get(name) == speed.sha256
    }
    return speeds.model_copy(update={"measured": known}) if known else None
