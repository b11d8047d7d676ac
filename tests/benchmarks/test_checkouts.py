"""A copy of the checkout that has never run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.checkouts import copied_checkout


def test_a_copy_has_new_files_and_nothing_that_a_run_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seed: 0\n")
    Path(".gitignore").write_text("var/\n")
    identity = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "x"]):
        subprocess.run(["git", *identity, *command], check=True)
    # What a run with parameters of its own leaves, and what a developer has just begun.
    Path("params.yaml").write_text("seed: 1\n")
    Path("dvc.lock").write_text("stages: {}\n")
    Path("var").mkdir()
    Path("var/kept").write_text("")
    Path("begun.py").write_text("")
    with copied_checkout() as root:
        assert (root / "params.yaml").read_text() == "seed: 0\n"
        assert {path.name for path in root.iterdir()} == {
            ".git",
            ".gitignore",
            "begun.py",
            "params.yaml",
        }
    assert Path("params.yaml").read_text() == "seed: 1\n"
