"""MLflow stores for tests, without the seconds that the first use of each one costs."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from graftline.core.database_templates import begin_with_copy
from graftline.core.private import login, login_file
from graftline.core.workspace import Workspace
from graftline.registry import tracking


def make_template(folder: Path) -> Path:
    """A SQLite store with its tables and nothing in it."""
    database = folder / "mlflow.db"
    begin_with_copy("mlflow", database)
    MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


def use_template(template: Path, workspace: Workspace) -> None:
    """Gives a workspace a store of its own."""
    place = workspace.var / "mlflow" / "mlflow.db"
    place.parent.mkdir(parents=True)
    shutil.copy(template, place)


def let_in(workspace: Workspace) -> dict[str, str]:
    """What MLflow's clients find the login to a workspace's pages in."""
    name, _, password = login(login_file(workspace)).partition(":")
    return {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}


def client_of(workspace: Workspace) -> MlflowClient:
    """A client of a workspace's store that shares nothing with the code under test."""
    return MlflowClient(tracking.configure(workspace).uri)


def runs_of(workspace: Workspace) -> list[Run]:
    """All runs of a workspace's store, the oldest first."""
    client = client_of(workspace)
    experiments = [one.experiment_id for one in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))
