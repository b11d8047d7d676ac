"""When a process did what, for those who ask where the seconds go: files under ``var/timings``.

Seconds are since 1970, so that the spans of several processes lie on one line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from graftline.core.files import write_text
from graftline.core.process_identity import boot_id
from graftline.core.processes import age_s
from graftline.core.workspace import Workspace

FLOW = "flow"
"""The name under which a flow's own process writes."""


@dataclass(frozen=True)
class Span:
    """What was done from one moment to another, in seconds since 1970."""

    name: str
    begin_s: float
    end_s: float


@dataclass
class Timings:
    """The spans of this process, in the order in which they ended.

    Args:
        born_s: When the process was started, in seconds since 1970.
    """

    born_s: float = field(default_factory=lambda: time.time() - age_s())
    spans: list[Span] = field(default_factory=list)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Notes how long the block takes, however it ends."""
        begin_s = time.time()
        try:
            yield
        finally:
            self.spans.append(Span(name, round(begin_s, 3), round(time.time(), 3)))

    def write(self, workspace: Workspace, name: str, seconds: float) -> None:
        """Puts them into ``var/timings/<name>.json``, beside how long the whole took."""
        record = {
            "seconds": round(seconds, 3),
            "born_s": round(self.born_s, 3),
            # Which no change of the clock moves; see noted_since.
            "boot": boot_id(),
            "uptime_s": round(_uptime_s(), 3),
            "spans": [asdict(span) for span in self.spans],
        }
        write_text(file(workspace, name), json.dumps(record) + "\n")


def noted_since(workspace: Workspace, name: str, started: float) -> bool:
    """Whether a stage has written its timings since a process of this boot was started.

    Args:
        workspace: The checkout.
        name: The stage.
        started: As in :class:`graftline.core.processes.ProcessIdentity`.
    """
    try:
        record = json.loads(file(workspace, name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return record.get("boot") == boot_id() and float(record["uptime_s"]) >= started


def file(workspace: Workspace, name: str) -> Path:
    """Where the timings of a stage, or of the flow, lie."""
    return workspace.var / "timings" / f"{name}.json"


def _uptime_s() -> float:
    """Now, on the scale of :class:`graftline.core.processes.ProcessIdentity`."""
    if sys.platform != "linux":
        return time.time()
    return time.clock_gettime(time.CLOCK_BOOTTIME)
