"""What several test modules of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from graftline.core.workspace import Workspace
from tests.sharing import made_once


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store; making one costs seconds."""
    from tests.histories import make_template

    return made_once(tmp_path_factory, "mlflow", make_template) / "mlflow.db"


@pytest.fixture
def tracked(tmp_path: Path, store_template: Path) -> Workspace:
    """A finished workspace with an empty history."""
    from tests.finished import finish
    from tests.histories import use_template

    workspace = Workspace(tmp_path)
    finish(workspace)
    use_template(store_template, workspace)
    return workspace
