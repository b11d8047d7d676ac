from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from flows import serve
from graftline.cli.projects import take_down
from graftline.core.errors import ParamsError
from graftline.core.workspace import Workspace
from graftline.orchestration.deployments import FILE, deployments, pools

ROOT = Path(__file__).resolve().parents[3]


def test_the_committed_file_schedules_the_retraining() -> None:
    nightly = next(one for one in deployments(Workspace(ROOT)) if one.written == "nightly")
    assert nightly.record["entrypoint"] == "flows.retrain.retrain"
    assert nightly.crons == ("0 3 * * *",)
    assert nightly.record["concurrency_limit"]["limit"] == 1
    assert nightly.environment["PREFECT_FLOWS_DEFAULT_RETRIES"] == "2"
    assert nightly.flow == "retrain"
    assert nightly.name == f"nightly-{nightly.project}"
    # What the project and the pool share is not said twice.
    assert pools(Workspace(ROOT)) == [nightly.project]
    assert re.fullmatch("graftline-[0-9a-f]{6}", nightly.project)


@pytest.mark.parametrize(
    "text", ["", "deployments: 3", "deployments: [3]", "deployments: [{}]", "a: [b"]
)
def test_a_file_that_lists_no_deployments_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ParamsError, match="does not list deployments"):
        deployments(Workspace(tmp_path))


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="does not list deployments"):
        deployments(Workspace(tmp_path))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / FILE, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_HOME")
    return tmp_path


@pytest.mark.usefixtures("checkout")
def test_serving_without_a_server_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main([]) == 2
    said = capsys.readouterr().err
    assert "no Prefect server runs here" in said
    assert "graftline up" in said


def test_taking_down_where_nothing_is_up_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert take_down(Workspace(tmp_path)) == 0
    assert "nothing was up here" in capsys.readouterr().out
    assert not (tmp_path / "var" / "prefect").exists()
