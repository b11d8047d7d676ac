"""``graftline up`` and ``down``: Prefect's and MLflow's servers and a worker for the schedules.

Each is started once, detached from the terminal, on this machine's own addresses alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
from filelock import FileLock
from rich.console import Console

from graftline.compute.own_cluster import end_served
from graftline.core.environment import prefect_address, quiet_environment, tracking_address
from graftline.core.private import password_told
from graftline.core.processes import ProcessIdentity, end_all
from graftline.core.redaction import without_secrets
from graftline.core.repository import check_repository
from graftline.core.workspace import Workspace
from graftline.operations.servers import (
    HOST,
    MLFLOW_PORT,
    PREFECT_PORT,
    Server,
    client_environment,
    keep_up,
    let_go,
    mlflow_server,
    prefect_server,
    process_of,
    users,
)
from graftline.orchestration import deployments
from graftline.orchestration.abandoned import MESSAGE, close_abandoned
from graftline.orchestration.api_health import check_answers
from graftline.orchestration.trigger import RETRAINS, deployment_of, ensure_trigger

MARK = "GRAFTLINE_STANDING"
"""In the environment of a worker, and so of all that it starts: the worker's folder."""
_START_LIMIT_S = 600.0
"""Long, as after a boot everything starts at once; one that dies meanwhile is told of at once."""
_API = "/api"
_ADDRESS = "PREFECT_API_URL"


def up(
    workspace: Workspace,
    console: Console,
    *,
    prefect_port: int = PREFECT_PORT,
    mlflow_port: int = MLFLOW_PORT,
) -> None:
    """Has servers, worker and deployments up; what is up already stays as it is.

    A server that the user has chosen by PREFECT_API_URL or MLFLOW_TRACKING_URI is used, and none
    is started in its place.

    Args:
        workspace: The checkout.
        console: Where the addresses are printed.
        prefect_port: Of Prefect's server, if it is free; 0 takes any.
        mlflow_port: Of MLflow's server, if it is free; 0 takes any.

    Raises:
        ServerError: If a server or the worker does not start, or the chosen one does not answer.
        ParamsError: If ``prefect.yaml`` cannot be used.
    """
    check_repository(workspace.root)
    pools = deployments.pools(workspace)
    chosen = prefect_address(os.environ, workspace.root)
    if chosen is not None:
        check_answers(chosen)
    with _alone(workspace):
        with console.status("starting the servers (a new database takes some seconds) …"):
            known, tracking = _servers_up(
                chosen,
                prefect_server(workspace, prefect_port),
                mlflow_server(workspace, mlflow_port),
            )
        api = known[_ADDRESS]
        console.print(f"Prefect  {without_secrets(api).removesuffix(_API)}")
        console.print(f"MLflow   {without_secrets(tracking)}")
        if chosen is None or tracking != os.environ.get("MLFLOW_TRACKING_URI"):
            console.print(f"log in   {password_told(workspace)}", markup=False)
        with console.status("applying prefect.yaml …"):
            # Before Prefect is imported, which reads its settings then.
            os.environ.update(known)
            check_answers(api)
            deployments.ensure_pools(workspace)
            deployments.apply_all(workspace, api)
            if any(one.written == RETRAINS for one in deployments.deployments(workspace)):
                ensure_trigger(workspace, deployment_of(workspace))
            former = list(deployments.without_project(workspace, own_server=chosen is None))
        for sentence in former:
            console.print(f"former   {sentence}", markup=False)
        for pool in set(_pools_up(workspace)) - set(pools):
            _stop_worker(worker_of(workspace, pool, ""))
            console.print(f"former   the worker of pool {pool} was stopped", markup=False)
        # Before the worker starts: a run that is gone may hold the place of those to come.
        for name in close_abandoned(workspace):
            console.print(f"closed   {name}: {MESSAGE}", markup=False)
        for pool in pools:
            with console.status("starting the worker …"):
                worker = worker_of(workspace, pool, api)
                if _polls_another(worker, known):
                    _stop_worker(worker)
                _kept_up(worker)
            told = f"process {_pid(worker)}; its log: {worker.log_file}"
            console.print(f"worker   pool {pool}, {told}")
    for one in deployments.deployments(workspace):
        when = ", ".join(one.crons) or "when something triggers it"
        console.print(f"runs     {one.flow}/{one.name}: {when}")
    console.print("graftline down stops them.")


def down(workspace: Workspace, console: Console) -> None:
    """Stops what :func:`up` started, and the runs that the worker started."""
    with _alone(workspace):
        found = False
        for pool in _pools_up(workspace):
            found = _stop_worker(worker_of(workspace, pool, "")) or found
            console.print(f"worker   pool {pool}: stopped")
        for server in (prefect_server(workspace), mlflow_server(workspace)):
            state = let_go(server)
            found = found or state != "absent"
            if state == "stopped":
                console.print(f"{server.title:8} stopped")
            elif state == "in use":
                pids = ", ".join(str(user.pid) for user in users(server))
                console.print(
                    f"{server.title:8} still used by process {pids}, and stops with the last of "
                    "its users"
                )
        if end_served(workspace.root):
            found = True
            console.print("cluster  stopped")
        if not found:
            console.print("nothing was up here")


def worker_of(workspace: Workspace, pool: str, api: str) -> Server:
    """The worker of a pool: it answers whether it still polls, so it is a server as the others."""
    folder = workspace.var / "workers" / pool
    return Server(
        title="Prefect worker",
        folder=folder,
        arguments=("prefect", "worker", "start", "--pool", pool, "--type", "process")
        + ("--name", pool, "--install-policy", "never", "--with-healthcheck"),
        health_path="/health",
        preferred_port=0,
        environment={
            **quiet_environment(workspace),
            MARK: str(folder),
            _ADDRESS: api,
            "PREFECT_WORKER_WEBSERVER_HOST": HOST,
            "PREFECT_WORKER_WEBSERVER_PORT": "{port}",
            # What a run prints for people would stand twice in its log.
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
            "PYTHONUNBUFFERED": "1",
        },
        unset=("PREFECT_PROFILE",),
    )


def _servers_up(api: str | None, prefect: Server, mlflow: Server) -> tuple[dict[str, str], str]:
    """What Prefect's API, which may be chosen already, is found by, and MLflow's address."""
    tracking = tracking_address(os.environ)
    # Both at once: each spends its seconds on importing.
    with ThreadPoolExecutor() as pool:
        own_api = None if api else pool.submit(_kept_up, prefect)
        own_tracking = None if tracking else pool.submit(_kept_up, mlflow)
        return (
            client_environment(prefect, own_api.result()) if own_api else {_ADDRESS: f"{api}"},
            own_tracking.result() if own_tracking else f"{tracking}",
        )


def _kept_up(server: Server) -> str:
    return keep_up(server, _START_LIMIT_S)


def _polls_another(worker: Server, known: Mapping[str, str]) -> bool:
    """Whether the worker runs, but polls a server that is not there, or not lets it in any more."""
    process = process_of(worker)
    if process is None:
        return False
    try:
        its = psutil.Process(process.pid).environ()
    except psutil.Error:
        return True
    return any(its.get(name) != value for name, value in known.items())


def _stop_worker(worker: Server) -> bool:
    """Ends the runs of the worker, which tell Prefect so, then the worker itself."""
    process = process_of(worker)
    marked = list(_marked(worker, process))
    runs = [one for one in marked if process is not None and _parent(one) == process.pid]
    end_all(runs)
    stopped = let_go(worker) == "stopped"
    # What a worker that was killed has left, and what its runs have left.
    end_all(list(_marked(worker, process)))
    return stopped or bool(marked)


def _marked(worker: Server, itself: ProcessIdentity | None) -> Iterator[psutil.Process]:
    """What was started by this worker, or by one before it, and is not the worker."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        if process.pid in own or (itself is not None and process.pid == itself.pid):
            continue
        try:
            if process.environ().get(MARK) == str(worker.folder):
                yield process
        except (psutil.Error, OSError):
            continue


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _pools_up(workspace: Workspace) -> list[str]:
    return sorted(path.parent.name for path in (workspace.var / "workers").glob("*/server.json"))


def _pid(worker: Server) -> int | None:
    process = process_of(worker)
    return process.pid if process else None


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    workspace.var.mkdir(parents=True, exist_ok=True)
    with FileLock(workspace.var / "standing.lock"):
        yield
