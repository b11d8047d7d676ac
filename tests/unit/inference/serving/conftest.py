from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from graftline.core.workspace import Workspace
from graftline.inference.serving.app import Service
from tests import finished
from tests.unit.inference.serving.service import Client, asked


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace(tmp_path_factory.mktemp("model"))
    finished.train(workspace)
    return workspace.trained


@pytest.fixture(scope="module")
def running(model: Path) -> Iterator[tuple[Client, Service]]:
    with asked(model, request_bytes=100_000, images=4, image_px=1_000_000) as both:
        yield both


@pytest.fixture(scope="module")
def client(running: tuple[Client, Service]) -> Client:
    return running[0]
