"""``graftline ui``: both web pages, on this machine alone, until Ctrl-C."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from rich.console import Console

from graftline.core.environment import prefect_address
from graftline.core.errors import ServerError
from graftline.core.private import password_told
from graftline.core.processes import termination_as_interrupt
from graftline.core.redaction import without_secrets
from graftline.core.workspace import Workspace
from graftline.operations.servers import Server, alive, join, leave, mlflow_server, prefect_server

_LOOK_S = 2.0


def run_ui(workspace: Workspace) -> int:
    """Serves Prefect's and MLflow's pages until interrupted; a flow that runs shares them.

    A server that the user has chosen by PREFECT_API_URL or MLFLOW_TRACKING_URI is named and not
    started.

    Returns:
        The exit code: 0 once interrupted.

    Raises:
        ServerError: If one does not start, or stops by itself.
    """
    console = Console(highlight=False, soft_wrap=True)
    own, lines = _wanted(workspace)
    with ExitStack() as stack, termination_as_interrupt():
        if own:
            with console.status("starting the servers (a new database takes some seconds) …"):
                lines += _joined(own, stack)
        for title, address in sorted(lines, reverse=True):
            console.print(f"{title:8} {address}")
        if not own:
            return 0
        if any(server.login_file for server in own):
            console.print(f"log in   {password_told(workspace)}", markup=False)
        console.print("Ctrl-C stops what was started here.")
        try:
            _watch(own)
        except KeyboardInterrupt:
            console.print("stopping …")
    return 0


def _wanted(workspace: Workspace) -> tuple[list[Server], list[tuple[str, str]]]:
    own: list[Server] = []
    chosen: list[tuple[str, str]] = []
    address = prefect_address(os.environ, workspace.root)
    if address is None:
        own.append(prefect_server(workspace))
    else:
        chosen.append(("Prefect", without_secrets(address).removesuffix("/api")))
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    if tracking.startswith(("http://", "https://")):
        chosen.append(("MLflow", without_secrets(tracking)))
    else:
        own.append(mlflow_server(workspace))
    return own, chosen


def _joined(servers: list[Server], stack: ExitStack) -> list[tuple[str, str]]:
    # Both at once: each spends its seconds on importing.
    with ThreadPoolExecutor() as pool:
        starts = [(server, pool.submit(join, server)) for server in servers]
        for server, _ in starts:
            stack.callback(leave, server)
    return [(server.title, start.result()) for server, start in starts]


def _watch(servers: list[Server]) -> None:
    while all(alive(server) for server in servers):
        time.sleep(_LOOK_S)
    for server in servers:
        if not alive(server):
            raise ServerError(
                f"the {server.title} server has stopped by itself",
                where=str(server.log_file),
                fix="read the end of that file, and start again",
            )
