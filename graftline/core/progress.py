"""A progress bar for what may take long: quiet without a terminal, silent for two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_SILENT_S = 2.0


class Bar:
    """Counts what is done, and shows it once two seconds have passed.

    Args:
        description: What is being done, in a few words.
        total: How many there are to do; None if nobody knows.
        unit: What is counted, in the plural.
        shown: Whether there is a terminal to draw on.
    """

    def __init__(self, description: str, total: int | None, unit: str, *, shown: bool) -> None:
        self._description = description
        self._total = total
        self._unit = unit
        self._shown = shown
        self._begun = time.monotonic()
        self._done = 0
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def advance(self, count: int = 1, status: str = "") -> None:
        """Counts ``count`` more; ``status`` stands after the rate, such as a loss."""
        self._done += count
        if not self._shown:
            return
        seconds = time.monotonic() - self._begun
        if self._progress is None:
            if seconds < _SILENT_S:
                return
            self._begin()
        rate = f"{self._done / seconds:,.0f} {self._unit}/s"
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._done, rate=rate, status=status)

    def close(self) -> None:
        """Takes the bar off the screen."""
        if self._progress is not None:
            self._progress.stop()

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            Remaining(),
            TextColumn("{task.fields[status]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task(
            self._description, total=self._total, rate="", status=""
        )


@contextmanager
def progress(description: str, total: int | None, unit: str = "images") -> Iterator[Bar]:
    """Shows a bar on standard error while the block runs.

    Args:
        description: What is being done, in a few words.
        total: How many there are to do; None if nobody knows.
        unit: What is counted, in the plural.
    """
    bar = Bar(description, total, unit, shown=sys.stderr.isatty())
    try:
        yield bar
    finally:
        bar.close()
