"""Tests read what is committed: they pass in a checkout whose user has changed ``params.yaml``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.flows import tiny

CHANGES = {
    "seed: 0": "seed: 5",
    "source: mnist-5k": "source: folder",
    "path: data/no-files": "path: var/pictures",
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
    *(f"tests/unit/core/test_{name}.py" for name in ("params", "stage_params", "code_lock")),
    "tests/unit/data/test_image_files.py",
    *(f"tests/unit/orchestration/test_{name}.py" for name in ("overrides", "override_texts")),
)
# A project's own tests look at the project as it is; the other has a checkout of its own.
ALLOWED = {"tests/test_project.py", "tests/unit/core/test_repository.py"}


def test_no_test_names_the_parameters_of_this_checkout() -> None:
    reads = re.compile(r"\b(checkout|ROOT|CHECKOUT) / \"params\.yaml\"")
    root = tiny.CHECKOUT
    found = {
        str(path.relative_to(root))
        for path in (root / "tests").rglob("test_*.py")
        if reads.search(path.read_text(encoding="utf-8"))
    }
    assert found <= ALLOWED, "the fixture params_text has them as git does"


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
