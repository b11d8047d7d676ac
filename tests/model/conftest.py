"""What the tests of the network share, built once: TensorFlow's seconds are the dear ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from graftline.core.workspace import Workspace
from tests.model import small
from tests.sharing import made_once


@pytest.fixture(scope="session")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace up to ``assemble``; tests copy it before they write into it."""

    def make(root: Path) -> None:
        small.write_source(root)
        small.prepare(Workspace(root), small.small_params())

    return Workspace(made_once(tmp_path_factory, "assembled", make))


@pytest.fixture(scope="session")
def head_only(assembled: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Trained with the whole backbone frozen."""

    def make(root: Path) -> None:
        small.finish(small.copied(assembled, root), small.small_params("all"))

    return Workspace(made_once(tmp_path_factory, "head_only", make))


@pytest.fixture(scope="session")
def last_block(assembled: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Trained with the last block and the head free."""

    def make(root: Path) -> None:
        small.finish(small.copied(assembled, root), small.small_params({"last_blocks": 1}))

    return Workspace(made_once(tmp_path_factory, "last_block", make))
