"""The workflows of docs/ci.md: they parse, keep what there is to keep, and their shell runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from graftline.core.exit_codes import NOT_PROMOTED
from graftline.core.workspace import Workspace
from graftline.orchestration.launch import _parsed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ci.md"
KEPT = [".dvc/cache", "var/mlflow", "var/results"]
TEXT = PAGE.read_text(encoding="utf-8")
GITHUB, GITLAB = (
    yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
)
STEPS: dict[str, Any] = {
    one.get("name") or one.get("uses") or one["run"]: one
    for one in GITHUB["jobs"]["train"]["steps"]
}


def test_both_keep_the_same_and_run_the_same() -> None:
    job = GITLAB["train"]
    restored, saved = (STEPS[f"actions/cache/{what}@v4"] for what in ("restore", "save"))
    assert restored["with"]["path"].split() == KEPT == job["cache"]["paths"]
    # What was trained is kept too where the model was not promoted.
    assert saved["with"].items() <= restored["with"].items()
    assert (saved["if"], job["cache"]["when"]) == ("always()", "always")
    (command,) = job["script"]
    assert STEPS["train"]["run"] == command
    assert STEPS["report"]["run"] == job["after_script"][0]
    for kept in KEPT:
        assert f"`{kept}`" in TEXT

    graftline, run, *words = shlex.split(command)
    assert (graftline, run) == ("graftline", "run")
    assert _parsed("flows.train", "train", words, looks=False).require_promotion
    assert f"| {NOT_PROMOTED} | everything ran" in TEXT
    assert Workspace(Path()).var == Path("var")


@pytest.mark.slow
def test_the_report_is_written_with_and_without_something_to_compare(tmp_path: Path) -> None:
    folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join((folder, os.environ["PATH"]))}

    def sh(command: str, **more: str) -> str:
        # As both services run it: it ends with the first fault.
        ended = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", command],
            cwd=tmp_path,
            env=environment | more,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    report = STEPS["report"]["run"]
    sh("git init -q && dvc init -q && mkdir reports")
    (tmp_path / "dvc.yaml").write_text(
        "stages: {evaluate: {cmd: cp new.json reports/metrics.json, deps: [new.json], "
        "metrics: [reports/metrics.json]}}\n"
    )
    (tmp_path / "new.json").write_text('{"test_accuracy": 0.9}')
    sh("dvc repro -q && git add -A && git commit -qm first")
    (tmp_path / "new.json").write_text('{"test_accuracy": 0.95}')
    (tmp_path / "reports" / "promotion.md").write_text("# flowers version 2 is the new champion\n")
    sh("dvc repro -q")

    said = sh(report, BASE="HEAD")
    assert "test_accuracy | 0.9    | 0.95" in said
    assert "# flowers version 2 is the new champion" in said
    assert (tmp_path / "var" / "ci-report.md").read_text() == said

    (tmp_path / "reports" / "promotion.md").unlink()
    said = sh(report, BASE="origin/absent")
    assert "They cannot be compared: origin/absent has no dvc.lock" in said
    assert "No model was compared with the champion." in said
