"""What the tests of the network share, built once: TensorFlow's seconds are the dear ones."""

from __future__ import annotations

import pytest

from graftline.core.workspace import Workspace
from tests.model import small


@pytest.fixture(scope="session")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace up to ``assemble``; tests copy it before they write into it."""
    workspace = Workspace(tmp_path_factory.mktemp("assembled"))
    small.write_source(workspace.root)
    small.prepare(workspace, small.small_params())
    return workspace


@pytest.fixture(scope="session")
def head_only(assembled: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Trained with the whole trunk frozen."""
    workspace = small.copied(assembled, tmp_path_factory.mktemp("head_only"))
    small.finish(workspace, small.small_params("all"))
    return workspace


@pytest.fixture(scope="session")
def last_block(assembled: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Trained with the last block and the head free."""
    workspace = small.copied(assembled, tmp_path_factory.mktemp("last_block"))
    small.finish(workspace, small.small_params({"last_blocks": 1}))
    return workspace
