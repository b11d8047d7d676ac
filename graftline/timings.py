"""When a process did what, for those who ask where the seconds go: files under ``var/timings``.

Seconds are since 1970, so that the spans of several processes lie on one line.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from graftline.processes import age_s
from graftline.storage import write_text
from graftline.workspace import Workspace

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
            "spans": [asdict(span) for span in self.spans],
        }
        write_text(file(workspace, name), json.dumps(record) + "\n")


def file(workspace: Workspace, name: str) -> Path:
    """Where the timings of a stage, or of the flow, lie."""
    return workspace.var / "timings" / f"{name}.json"
