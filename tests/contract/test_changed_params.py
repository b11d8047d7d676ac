"""Tests read what is committed: they pass in a checkout whose user has changed ``params.yaml``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.flows import tiny

CHANGES = {
    "seed: 0": "seed: 5",
    "source: mnist-5k": "source: folder",
    "path: null": "path: var/pictures",
    "max_image_px: 50000000": "max_image_px: 40000000",
    "size_px: 96": "size_px: 64",
    "weights: stanford-dogs": "weights: random",
    "cut: block_13_expand_relu": "cut: null",
    "units: [256]": "units: []",
    "strategy: all": "strategy: none",
    "learning_rate: 0.001": "learning_rate: 0.01",
    "model_name: graftline": "model_name: mine",
    "min_accuracy: 0.9": "min_accuracy: 0.4",
}
READERS = (
    "tests/contract",
    "tests/test_project.py",
    "tests/unit/core",
    "tests/unit/data/test_image_files.py",
    "tests/unit/operations",
    "tests/unit/orchestration",
)


@pytest.mark.slow
def test_no_test_reads_the_parameters_that_a_user_has_changed(
    tmp_path: Path, params_text: str
) -> None:
    root = tmp_path / "checkout"
    tiny.copy_tracked(root)
    (root / "params.yaml").write_text(params_text, encoding="utf-8")
    for command in (("git", "init", "-q"), ("git", "add", "-A"), (*tiny.COMMIT, "start")):
        tiny.sh(root, *command)
    for number, label in enumerate(("a", "b")):
        (root / "var" / "pictures" / label).mkdir(parents=True)
        picture = Image.new("L", (20, 20), 100 * number)
        picture.save(root / "var" / "pictures" / label / "1.png")
    text = params_text
    for before, after in CHANGES.items():
        assert before in text
        text = text.replace(before, after, 1)
    (root / "params.yaml").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *READERS],
        cwd=root,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
