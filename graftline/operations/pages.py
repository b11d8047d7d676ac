"""The addresses of pages in Prefect's and MLflow's web UIs: of the runs, and of one run."""

from __future__ import annotations

import os

from graftline.core.environment import prefect_address, tracking_address
from graftline.core.redaction import without_secrets
from graftline.core.workspace import Workspace
from graftline.operations import servers
from graftline.operations.servers import HOST, Server, mlflow_server, prefect_server
from graftline.registry.tracking import LastRun, last_run

_TRAINING = "workflowType=machine_learning"
"""Without it MLflow shows its menu for language models."""


def prefect_page(address: str, run: LastRun | None) -> str:
    """The page of the last flow run; without one, Prefect's first page."""
    if run is None or run.flow_run_id is None:
        return address
    return f"{address}/runs/flow-run/{run.flow_run_id}"


def mlflow_runs_page(address: str, run: LastRun | None) -> str:
    """MLflow's page of training runs, with accuracies.

    Its first page tells of language models, and is empty here.

    Args:
        address: Where MLflow serves.
        run: Of whose experiment; None gives the first page.
    """
    if run is None or not run.experiment_id:
        return address
    view = f"&viewStateShareKey={run.runs_view}" if run.runs_view else ""
    return f"{address}/#/experiments/{run.experiment_id}/runs?{_TRAINING}{view}"


def mlflow_run_page(address: str, run: LastRun | None) -> str | None:
    """The page of the last run; None without one."""
    if run is None or not run.experiment_id:
        return None
    return f"{address}/#/experiments/{run.experiment_id}/runs/{run.run_id}?{_TRAINING}"


def chosen_prefect(workspace: Workspace) -> str | None:
    """The server that the user has chosen; None where Graftline starts its own."""
    address = prefect_address(os.environ, workspace.root)
    return None if address is None else without_secrets(address).removesuffix("/api")


def chosen_mlflow() -> str | None:
    """The server that the user has chosen; None where Graftline starts its own."""
    address = tracking_address(os.environ)
    return None if address is None else without_secrets(address)


def pages_of_last_run(workspace: Workspace) -> list[tuple[str, str]]:
    """What is to be looked at of the last run: a word, and an address.

    Of a server that does not run, the address is the one that ``graftline ui`` gives it unless
    something else has its port.
    """
    run = last_run(workspace)
    if run is None:
        return []
    prefect = chosen_prefect(workspace) or _address(prefect_server(workspace))
    mlflow = chosen_mlflow() or _address(mlflow_server(workspace))
    found = [("flow run", prefect_page(prefect, run))] if run.flow_run_id else []
    if page := mlflow_run_page(mlflow, run):
        found.append(("results", page))
    return found


def _address(server: Server) -> str:
    return servers.address(server) or f"http://{HOST}:{server.preferred_port}"
