"""The page of the API, run piece by piece on a real project; and a project from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import graftline
from tests.flows import tiny

PAGE = (tiny.CHECKOUT / "docs" / "api.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_tells_of_every_name() -> None:
    for name in graftline.__all__:
        assert f"`graftline.{name}`" in PAGE
    for name, member in vars(graftline.Project).items():
        if not name.startswith("_"):
            assert f"project.{name}" in PAGE
            assert member.__doc__


@pytest.mark.slow
def test_the_code_of_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    workspace = tiny.make(tmp_path)
    workspace.root.rename(tmp_path / "flowers")
    (tmp_path / "photographs").mkdir()
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "photographs" / "one.png")
    (tmp_path / "photographs" / "two.png").write_bytes(b"no image")
    script = tmp_path / "page.py"
    script.write_text("\n".join(CODE) + "\nprint('to the end')\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("to the end\n")
    for expected in ("photographs/one.png", "photographs/two.png None None", "train.epochs"):
        assert expected in done.stdout
