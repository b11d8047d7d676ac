"""What a sweep has finished is taken up again by the code that finished it, and by no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import freezing_sweep as sweep
from graftline.core.params import Params
from graftline.core.records import Assembled
from graftline.core.workspace import Workspace
from tests.model import small

PARAMS = small.small_params()


class Toy:
    """A task of four images."""

    def make(self, repeat: int) -> Any:
        images = np.zeros((2, 8, 8, 1), np.uint8)
        return (images, np.arange(2)), (images, np.arange(2))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    made = Workspace(tmp_path / "toy")

    def assemble(workspace: Workspace, _: Params) -> None:
        workspace.assembled.mkdir(parents=True)
        Assembled.path_in(workspace).write_text("{}")

    for step in ("load", "preprocess"):
        monkeypatch.setattr(sweep, step, lambda *_: None)
    monkeypatch.setattr(sweep, "assemble", assemble)
    monkeypatch.setattr(sweep.Assembled, "read", lambda path: path.read_text())
    monkeypatch.setattr(sweep, "code_state", lambda path, *, trains: [path, "one"])
    sweep.prepared(Toy(), 0, made, PARAMS)  # type: ignore[arg-type]
    (made.root / "results").mkdir()
    (made.root / "results" / "head-only.json").write_text("{}")
    (made.root / sweep.CHOSEN).write_text("{}")
    return made


def test_the_same_code_goes_on(workspace: Workspace) -> None:
    sweep.prepared(Toy(), 0, workspace, PARAMS)  # type: ignore[arg-type]
    assert (workspace.root / "results" / "head-only.json").is_file()
    assert (workspace.root / sweep.CHOSEN).is_file()


def test_other_code_begins_anew(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "code_state", lambda path, *, trains: [path, "another"])
    sweep.prepared(Toy(), 0, workspace, PARAMS)  # type: ignore[arg-type]
    assert not (workspace.root / "results").exists()
    assert not (workspace.root / sweep.CHOSEN).exists()
    assert Assembled.path_in(workspace).is_file()
