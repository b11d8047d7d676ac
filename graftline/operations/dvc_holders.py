"""Whom DVC's records of readers and writers name, alive or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple


class DvcHolder(NamedTuple):
    """A process that a record names."""

    pid: int
    command: str


def read_holders(record: Path) -> list[DvcHolder]:
    """The processes that a ``rwlock`` of DVC's names; none if it is absent or torn.

    DVC forgets the dead too, but to it a process is alive until its parent has waited for it,
    and who adopts a killed flow's children, as in a container, may never do so.
    """
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        holders = list(content.get("write", {}).values())
        for readers in content.get("read", {}).values():
            holders += readers
        return [DvcHolder(int(one["pid"]), str(one.get("cmd", ""))) for one in holders]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
