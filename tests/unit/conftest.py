"""What several test modules of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from graftline.core.workspace import Workspace


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store; making one costs seconds."""
    from tests.histories import make_template

    return make_template(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def tracked(tmp_path: Path, store_template: Path) -> Workspace:
    """A finished workspace with an empty history."""
    from tests.finished import finish
    from tests.histories import use_template

    workspace = Workspace(tmp_path)
    finish(workspace)
    use_template(store_template, workspace)
    return workspace
