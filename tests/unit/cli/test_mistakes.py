from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graftline.cli.mistakes import show_mistakes
from graftline.core.errors import MissingOutputError
from graftline.core.files import write_text
from graftline.core.workspace import Workspace
from tests import finished


def test_wrong_answers_are_listed_the_surest_first_with_their_files(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert show_mistakes(workspace, as_json=True, limit=0) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        {"file": "photos/dark/[b].png", "label": "dark", "predicted": "bright", "probability": 0.9},
        # An image that is no file of its own.
        {"file": "images[3]", "label": "bright", "predicted": "dark", "probability": 0.75},
    ]

    assert show_mistakes(workspace, as_json=False, limit=1) == 0
    said = capsys.readouterr().out
    assert said.startswith("2 of 4 test images are named wrongly; the 1 surest (all: --limit 0)")
    assert "photos/dark/[b].png" in said
    assert "images[3]" not in said


def test_before_an_evaluation_it_says_what_to_do(workspace: Workspace) -> None:
    (workspace.evaluation / "predictions.parquet").unlink()
    with pytest.raises(MissingOutputError, match="no model has been evaluated yet"):
        show_mistakes(workspace, as_json=False, limit=20)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    finished.finish(workspace)
    text = workspace.params_file.read_text(encoding="utf-8")
    folder = text.replace("{source: mnist-5k}", "{source: folder, path: photos}")
    write_text(workspace.params_file, folder)
    write_text(workspace.root / "photos" / "dark" / "[b].png", "an image")
    columns = {
        "source": ["dark/a.png", "dark/[b].png", "images[3]", "bright/c.png"],
        "label": ["dark", "dark", "bright", "bright"],
        "predicted": ["dark", "bright", "dark", "bright"],
        "probability": [0.99, 0.9, 0.75, 0.6],
    }
    pq.write_table(pa.table(columns), workspace.evaluation / "predictions.parquet")
    return workspace
