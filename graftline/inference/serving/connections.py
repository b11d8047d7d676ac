"""Connections of clients that may never say a word: so many at once, and each with a deadline.

uvicorn waits for a request's head as long as a client likes, and lets connections beyond its limit
stay open until they ask. So a few hundred connections that send nothing would take the service
away from everybody else.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from graftline.inference.serving.limits import Limits

MOST_CONNECTIONS = 512
BACKLOG = 64
"""Connections that the system may accept in one go, before any of them is looked at."""
HEAD_S = 10.0
"""From a connection, or the last answer on it, to the end of the next request's head; by then the
client must have taken that answer, too."""
_ANSWER_MARGIN_S = 10.0
"""Beyond the limit of a request, for a client that is slow to take its answer."""
_OTHER_FILES = 128
"""Of the files that a process may open, what is left for all but connections."""
_LINES, _PER_S = 5, 60.0

_log = logging.getLogger(__name__)


def most_connections() -> int:
    """As many as this process may open, at most ``MOST_CONNECTIONS``."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(1, min(MOST_CONNECTIONS, soft - BACKLOG - _OTHER_FILES))


def bounded_connections(
    limits: Limits, most: int | None = None, head_s: float = HEAD_S
) -> type[H11Protocol]:
    """The protocol that uvicorn is to speak.

    Args:
        limits: ``time_s`` bounds how long a request may take from its head to its answer.
        most: Connections at once; by default :func:`most_connections`. One more closes the one
            that has been silent for the longest; it is closed itself if all others are at work.
        head_s: Seconds for the head of a request.
    """
    allowed = most_connections() if most is None else most
    answer_s = limits.time_s + _ANSWER_MARGIN_S
    # In the order in which they fell silent.
    silent: dict[H11Protocol, None] = {}

    class Bounded(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None
        _under_way: RequestResponseCycle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            if len(self.connections) >= allowed:
                _log.warning("%d connections are open; one was closed to stay there", allowed)
                if not silent:
                    transport.abort()
                    return
                longest = next(iter(silent))
                del silent[longest]
                longest.transport.abort()
                # Its end is told later, and its place is free now.
                self.connections.discard(longest)
            super().connection_made(transport)
            self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            silent.pop(self, None)
            if self._deadline is not None:
                self._deadline.cancel()
            if self.transport is not None:
                super().connection_lost(exc)

        def handle_events(self) -> None:
            super().handle_events()
            self._look()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._look()

        def _look(self) -> None:
            cycle = self.cycle
            under_way = None if cycle is None or cycle.response_complete else cycle
            if under_way is self._under_way or self.transport.is_closing():
                return
            self._under_way = under_way
            if under_way is None:
                self._wait_for_head()
            else:
                silent.pop(self, None)
                self._end_after(answer_s)

        def _wait_for_head(self) -> None:
            silent[self] = None
            self._end_after(head_s)

        def _end_after(self, seconds: float) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = self.loop.call_later(seconds, self.transport.abort)

    return Bounded


class Rationed(logging.Filter):
    """Lets a few lines of each kind through in a minute, so that no client can fill a disk.

    Args:
        lines: Of one kind in ``per_s``.
        per_s: Seconds after which they are counted anew; the next line tells how many were left
            out.
    """

    def __init__(self, lines: int = _LINES, per_s: float = _PER_S) -> None:
        super().__init__()
        self._lines, self._per_s = lines, per_s
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written; the kind is the text before its values are put in."""
        kind, now_s = (record.name, record.levelno, str(record.msg)[:80]), time.monotonic()
        since_s, count = self._seen.get(kind, (now_s, 0))
        if now_s - since_s >= self._per_s:
            if count > self._lines:
                _append(record, f" ({count - self._lines:,} more like the last ones)")
            since_s, count = now_s, 0
        self._seen[kind] = since_s, count + 1
        return count < self._lines


def _append(record: logging.LogRecord, text: str) -> None:
    message: Any = record.getMessage()
    record.msg, record.args = "%s", (message + text,)
