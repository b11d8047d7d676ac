"""``graftline ui``: both web pages, on this machine alone, until Ctrl-C."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from rich.console import Console

from graftline.core.errors import ServerError
from graftline.core.private import password_told
from graftline.core.processes import termination_as_interrupt
from graftline.core.workspace import Workspace
from graftline.operations.pages import (
    chosen_mlflow,
    chosen_prefect,
    mlflow_run_page,
    mlflow_runs_page,
    prefect_page,
)
from graftline.operations.servers import Server, alive, join, leave, mlflow_server, prefect_server
from graftline.registry.tracking import last_run

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
        run = last_run(workspace)
        for title, address in sorted(lines, reverse=True):
            page = prefect_page if title == "Prefect" else mlflow_runs_page
            console.print(f"{title:8} {page(address, run)}", markup=False)
            if title == "MLflow" and (one := mlflow_run_page(address, run)):
                console.print(f"{'':8} {one}", markup=False)
        if not own:
            return 0
        if any(server.login_file for server in own):
            console.print(f"log in   {password_told(workspace)}", markup=False)
        try:
            # Within: it may be pressed as soon as it is read.
            console.print("Ctrl-C stops what was started here.")
            _watch(own)
        except KeyboardInterrupt:
            console.print("stopping …")
    return 0


def _wanted(workspace: Workspace) -> tuple[list[Server], list[tuple[str, str]]]:
    own: list[Server] = []
    chosen: list[tuple[str, str]] = []
    for title, address, server in (
        ("Prefect", chosen_prefect(workspace), prefect_server),
        ("MLflow", chosen_mlflow(), mlflow_server),
    ):
        if address is None:
            own.append(server(workspace))
        else:
            chosen.append((title, address))
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
