"""The web pages in a real browser: what is photographed can be seen on the picture."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import screenshots
from graftline.core.private import login_file
from graftline.core.workspace import Workspace
from graftline.evaluation import plots, style
from graftline.operations.servers import client_environment, mlflow_server, prefect_server, serving
from tests import histories

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not any(map(shutil.which, screenshots.BROWSERS)),
        reason=f"needs one of {', '.join(screenshots.BROWSERS)}",
    ),
]


def test_both_pages_are_photographed(tmp_path: Path) -> None:
    workspace, out = Workspace(tmp_path), tmp_path / "out"
    picture = tmp_path / Path(screenshots.PICTURE).name
    style.save(plots.confusion_matrix(np.eye(3, dtype=int), list("abc"), (0.4, 1)), picture)
    with serving(prefect_server(workspace)) as prefect, serving(mlflow_server(workspace)) as mlflow:
        environment = os.environ | {
            **client_environment(prefect_server(workspace), prefect),
            "MLFLOW_TRACKING_URI": mlflow,
            **histories.let_in(workspace),
            "TOY_PICTURE": str(picture),
        }
        subprocess.run(
            [sys.executable, "-m", "tests.browser.toy"], env=environment, check=True, timeout=120
        )
        arguments = ["--prefect", prefect, "--mlflow", mlflow, "--out", str(out)]
        arguments += ["--login", str(login_file(workspace))]
        assert screenshots.main(arguments) == 0
    assert sorted(path.stem for path in out.iterdir()) == [
        "mlflow-metrics",
        "mlflow-picture",
        "mlflow-registry",
        "mlflow-run",
        "prefect-flow-run",
    ]
    for path in out.iterdir():
        assert path.stat().st_size < screenshots.MAX_BYTES
        with Image.open(path) as image:
            assert image.size == (1440, 900)
            assert len(image.convert("RGB").getcolors(1 << 24)) > 50, "the page is blank"


def test_without_a_server_it_says_what_to_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert screenshots.main([]) == 2
    assert "--prefect" in capsys.readouterr().err
