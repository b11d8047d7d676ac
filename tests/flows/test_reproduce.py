"""Runs of the past, run again: through git, DVC and MLflow as they are."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graftline.cli.main import main
from graftline.core.workspace import Workspace
from tests import histories
from tests.flows import toy
from tests.flows.conftest import Ran
from tests.unit.core.test_checksums import rot

pytestmark = pytest.mark.slow


def worktrees(workspace: Workspace) -> list[Path]:
    return list(workspace.root.parent.glob(".graftline-worktree-*"))


def test_the_same_comes_out_of_the_same(
    first_run: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = first_run.workspace
    monkeypatch.setenv("PYTHONPATH", str(toy.CHECKOUT))
    before = toy.ran(workspace)
    runs = len(histories.runs_of(workspace))

    assert main(["reproduce", "-C", str(workspace.root), "champion"]) == 0
    said = capsys.readouterr().out
    assert "data from DVC: the same came out, to the last bit" in " ".join(said.split())
    assert worktrees(workspace) == []
    # Neither the checkout nor its history has noticed anything.
    assert toy.ran(workspace) == before
    assert len(histories.runs_of(workspace)) == runs


def test_what_comes_out_differently_is_named(
    first_run: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = first_run.workspace
    monkeypatch.setenv("PYTHONPATH", str(toy.CHECKOUT))
    client, [run] = histories.client_of(workspace), histories.runs_of(workspace)
    digest = run.data.tags["graftline.weight_digest"]
    client.set_tag(run.info.run_id, "graftline.weight_digest", "another")
    cache = workspace.root / ".dvc" / "cache"
    cache.rename(cache.with_name("aside"))
    try:
        assert main(["reproduce", "-C", str(workspace.root), run.info.run_id]) == 1
    finally:
        client.set_tag(run.info.run_id, "graftline.weight_digest", digest)
        shutil.rmtree(cache, ignore_errors=True)
        cache.with_name("aside").rename(cache)
    said = " ".join(capsys.readouterr().out.split())
    assert "data from the source: it came out differently: weights." in said


def test_data_that_a_disk_has_damaged_in_the_cache_are_read_anew(
    first_run: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = first_run.workspace
    monkeypatch.setenv("PYTHONPATH", str(toy.CHECKOUT))
    whole = (workspace.loaded / "dataset.json").read_bytes()
    md5 = hashlib.md5(whole).hexdigest()
    kept = workspace.root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    rot(kept, 99)
    try:
        assert main(["reproduce", "-C", str(workspace.root), "champion"]) == 0
    finally:
        kept.write_bytes(whole)
    said = " ".join(capsys.readouterr().out.split())
    assert "data from the source: the same came out, to the last bit" in said


def test_a_checkout_below_a_bigger_repository_is_run_again_too(
    prefect_api: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from graftline.orchestration.launch import launch

    big = tmp_path / "größere Arbeit"
    neighbour = big / "other" / "code.py"
    neighbour.parent.mkdir(parents=True)
    neighbour.write_text("first\n")
    root = big / "work" / "mein Modell"
    workspace = toy.make(root, histories.make_template(tmp_path), repository=big)
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    monkeypatch.setenv("PYTHONPATH", str(toy.CHECKOUT))
    monkeypatch.chdir(root)
    # Neither another project's changes nor parameters that the history holds are in the way.
    neighbour.write_text("second\n")
    workspace.params_file.write_text(workspace.params_file.read_text() + "# mine\n")
    subprocess.run(["git", "add", "-A", str(big)], cwd=big, check=True)
    assert launch("flows.train", "train", []) == 0
    [run] = histories.runs_of(workspace)
    assert "graftline.git_changed" not in run.data.tags
    capsys.readouterr()

    assert main(["reproduce", "-C", str(root), "champion"]) == 0, capsys.readouterr()
    said = " ".join(capsys.readouterr().out.split())
    assert "data from DVC: the same came out, to the last bit" in said
    assert list(tmp_path.glob(".graftline-worktree-*")) == []
    assert neighbour.read_text() == "second\n"


def test_an_interrupted_one_leaves_nothing(first_run: Ran) -> None:
    workspace = first_run.workspace
    process = subprocess.Popen(
        [sys.executable, "-m", "graftline", "reproduce", "champion"],
        cwd=workspace.root,
        env={**os.environ, "PYTHONPATH": str(toy.CHECKOUT), "TOY_HANGS": "train"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until = time.monotonic() + 300
    hanging: list[Path] = []
    while not hanging and time.monotonic() < until:
        hanging = list(workspace.root.parent.glob(".graftline-worktree-*/var/hanging.pid"))
        time.sleep(0.1)
    pid = int(hanging[0].read_text())
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130, out
    assert worktrees(workspace) == []
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()
