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
from graftline.core.private import login, login_file
from graftline.core.workspace import Workspace
from graftline.evaluation import plots, style
from graftline.operations.pages import mlflow_runs_page
from graftline.operations.servers import client_environment, mlflow_server, prefect_server, serving
from graftline.registry import tracking
from tests import finished, histories

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


def test_the_list_of_runs_shows_the_accuracy_at_first(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    params = finished.some_params()
    run_id = tracking.open_run(workspace, params)
    histories.client_of(workspace).log_metric(run_id, "test_accuracy", 0.9375)
    tracking.complete_run(run_id, workspace, params, status="FAILED")
    name, _, password = login(login_file(workspace)).partition(":")
    with (
        serving(mlflow_server(workspace)) as mlflow,
        screenshots.opened_page(None, (name, password)) as page,
    ):
        page.goto(mlflow_runs_page(mlflow, tracking.last_run(workspace)))
        for text in ("test_accuracy", "0.9375"):
            shown = page.get_by_text(text, exact=True).first
            shown.wait_for()
            box = shown.bounding_box()
            # Beside the assistant, which MLflow opens by itself and which takes a quarter.
            assert box is not None and box["x"] + box["width"] < 1070


def test_without_a_server_it_says_what_to_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert screenshots.main([]) == 2
    assert "--prefect" in capsys.readouterr().err
