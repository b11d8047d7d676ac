"""The terminal while a flow runs: one line per step, with its latest message."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

State = Literal["executed", "restored", "cached", "failed"]

_STYLES: dict[State, str] = {
    "executed": "green",
    "restored": "cyan",
    "cached": "blue",
    "failed": "red",
}
_STEP_WIDTH, _STATE_WIDTH, _SECONDS_WIDTH = 10, 8, 7
_INDENT = 2


@dataclass(frozen=True)
class StepEnd:
    """How a step ended."""

    step: str
    state: State
    seconds: float
    text: str = ""
    """What came out of it, in one sentence."""


class Screen:
    """Writes to the terminal; without one, plain lines without colours and without movement."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.ends: list[StepEnd] = []

    def say(self, text: str) -> None:
        """Prints one line as it is."""
        self.console.print(text, markup=False, soft_wrap=not self.console.is_terminal)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Shows that a step is at work; what is yielded takes its latest line."""
        started_s = time.monotonic()
        try:
            with self._moving(name) as show:
                yield show
        except BaseException:
            self.end(StepEnd(name, "failed", time.monotonic() - started_s))
            raise

    def end(self, end: StepEnd) -> None:
        """Prints a step's line."""
        self.ends.append(end)
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=_INDENT - 1)
        grid.add_column(width=_STEP_WIDTH)
        grid.add_column(width=_STATE_WIDTH, style=_STYLES[end.state])
        grid.add_column(width=_SECONDS_WIDTH, justify="right", style="dim")
        grid.add_column(overflow="fold")
        grid.add_row("", end.step, end.state, f"{end.seconds:.1f} s", escape(end.text))
        self.console.print(grid)

    def summary(self, rows: Sequence[tuple[str, str]], seconds: float) -> None:
        """Prints what came out of a flow, a row for each label; texts may hold Rich's marks."""
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=_INDENT - 1)
        grid.add_column(width=_STEP_WIDTH, style="bold")
        grid.add_column(overflow="fold")
        for label, text in rows:
            grid.add_row("", label, text)
        self.console.print()
        self.console.print(f"Done in {seconds:.1f} s.", highlight=False)
        self.console.print(grid)

    @contextmanager
    def _moving(self, name: str) -> Iterator[Callable[[str], None]]:
        if not self.console.is_terminal:
            yield lambda _: None
            return
        with self.console.status(name) as status:
            yield lambda line: self._update(status, name, line)

    def _update(self, status: Status, name: str, line: str) -> None:
        room = max(self.console.width - len(name) - 8, 0)
        status.update(f"{name} [dim]{escape(line[:room])}[/dim]")


@contextmanager
def warnings_said(screen: Screen) -> Iterator[None]:
    """Says what the registry warns of, such as that it waits for a server, which Prefect hides."""
    handler = _ToScreen(screen)
    logger = logging.getLogger("graftline.registry")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _ToScreen(logging.Handler):
    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.say(record.getMessage())
