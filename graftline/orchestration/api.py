"""A Prefect API that a flow can tell: the user's own, or the server under ``var/``.

Nothing here imports Prefect at the top: its settings are read from the environment when it is
imported, and its server needs seconds to start, in which the import can take place.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from graftline.core.environment import prefect_address, settle
from graftline.core.timings import Timings
from graftline.core.workspace import Workspace
from graftline.operations.servers import join, kept_alive, leave, prefect_server
from graftline.orchestration.api_health import absence_told, asked_of, check_answers

T = TypeVar("T")
_ready = False
_CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"


def quieten(workspace: Workspace, *, debug: bool) -> None:
    """Closes ``var/`` and sets what the environment leaves open, before Prefect is imported.

    Args:
        workspace: Whose ``var/`` holds Prefect's database.
        debug: Whether Prefect's own lines are shown.
    """
    settle(workspace)
    # Prefect tells of everything on its pages; here a line per step is enough.
    os.environ.setdefault(_CONSOLE_LEVEL, "INFO" if debug else "CRITICAL")
    # What cannot be sent to its server is no news: that it is away has been said.
    logging.raiseExceptions = debug


def is_ready() -> bool:
    """Whether this process is in :func:`api_for`."""
    return _ready


@contextmanager
def api_for(
    workspace: Workspace, imported: Callable[[], T], say: Callable[[str], None], timings: Timings
) -> Iterator[T]:
    """Has an API answering, and says so if it goes away meanwhile.

    Args:
        workspace: Whose server is started if the user has chosen none.
        imported: What is to be imported; called while that server starts.
        say: Told of absences.
        timings: Where the wait is written down.

    Yields:
        What ``imported`` gives.

    Raises:
        ServerError: If the chosen API does not answer, or the server does not start.
    """
    address = prefect_address(os.environ, workspace.root)
    if address is not None:
        flow = imported()
        check_answers(address)
        with absence_told(address, say), _marked():
            yield flow
        return
    # Port 4200 is left to those who stay: graftline ui, and whatever the user runs.
    server = prefect_server(workspace, preferred_port=0)
    os.environ.pop("PREFECT_PROFILE", None)
    try:
        with ThreadPoolExecutor(1) as pool:
            start = pool.submit(join, server)
            flow = imported()
            with timings.span("server"):
                own = start.result()
        with asked_of(server, own), kept_alive(server, own, say), _marked():
            yield flow
    finally:
        with timings.span("leave"):
            leave(server)


@contextmanager
def _marked() -> Iterator[None]:
    global _ready
    _ready = True
    try:
        yield
    finally:
        _ready = False
