"""A verdict that cannot be told does not fail the flow, and the secret address is nowhere."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from graftline.core.workspace import Workspace
from graftline.orchestration.launch import launch
from tasks import notify
from tests.flows.test_train import newest_flow_run, task_states
from tests.listener import listening

TOKEN = "T0P-s3cr3t-of-the-flow"


def holding(folder: Path, text: str) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if text.encode() in path.read_bytes()]


def test_a_verdict_that_cannot_be_told_is_a_warning(
    checkout_after: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    told = tmp_path / "told.json"
    code = f"import sys; open({str(told)!r}, 'w').write(sys.stdin.read())"
    command = shlex.join([sys.executable, "-c", code])
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(notify, "_notify", notify._notify.with_options(retries=0))
    with listening() as listener:
        listener.code = 500
        monkeypatch.setenv("GRAFTLINE_WEBHOOK", f"{listener.address}/{TOKEN}")
        assert (
            launch("flows.train", "train", ["--debug", "--set", f"notify.command={command}"]) == 0
        )
    said = capfd.readouterr()
    assert "warning: the webhook at http://127.0.0.1:" in said.out
    assert "answered 500" in said.out
    flow_run = newest_flow_run()
    assert flow_run.state_name == "Completed"
    assert task_states(flow_run)["notify"] == "Failed"
    [(path, _, posted)] = listener.got
    assert path == f"/{TOKEN}"
    assert json.loads(told.read_text()) == posted
    assert posted["runs"]["prefect"] == str(flow_run.id)
    assert posted["model"]["name"] == "graftline"
    assert TOKEN not in said.out + said.err
    assert holding(checkout_after.root, TOKEN) == []
    assert holding(Path(os.environ["PREFECT_HOME"]), TOKEN) == []
    assert holding(Path(os.environ["PREFECT_HOME"]), str(flow_run.id)) != []
