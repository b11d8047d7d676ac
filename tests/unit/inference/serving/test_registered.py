"""Slow: the registered model served by Graftline and by MLflow, in processes of their own."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graftline.core.processes import ProcessIdentity, end_group
from graftline.core.workspace import Workspace
from graftline.inference.predict import predict
from graftline.operations.servers import answers
from graftline.registry import tracking
from graftline.steps.register import register
from tests import finished, histories
from tests.unit.inference.serving.service import encoded, in_base64
from tests.unit.inference.serving.test_cli import LIMIT_S, posted, served

pytestmark = pytest.mark.slow
PARAMS = finished.some_params()


@pytest.fixture
def champion(tracked: Workspace) -> Workspace:
    """Two registered versions, of which the first is the champion."""
    for weights in ("first", "second"):
        finished.train(tracked, weights)
        register(tracked, PARAMS, tracking.open_run(tracked, PARAMS))
    histories.client_of(tracked).set_registered_model_alias("graftline", "champion", "1")
    return tracked


def images() -> list[bytes]:
    random = np.random.default_rng(3)
    grey = [random.integers(95, 160, (28, 28), dtype=np.uint8) for _ in range(3)]
    colour = [random.integers(95, 160, (50, 40, 3), dtype=np.uint8) for _ in range(2)]
    return [encoded(one) for one in grey] + [encoded(one, "JPEG") for one in colour]


def expected(workspace: Workspace, folder: Path) -> list[dict[str, Any]]:
    """What ``graftline predict`` says of the images."""
    paths = []
    for place, data in enumerate(images()):
        paths.append(folder / f"{place}.img")
        paths[-1].write_bytes(data)
    return [one.to_record() for one in predict(paths, workspace)]


def test_a_new_champion_is_taken_without_dropping_a_request(champion: Workspace) -> None:
    text = in_base64(images()[0])
    seen: list[str] = []
    faults: list[str] = []
    stop = threading.Event()

    def ask(address: str) -> None:
        while not stop.is_set():
            try:
                told: Any = posted(address, {"images": [text]})
                seen.append(told["model"]["version"])
            except (OSError, http.client.HTTPException) as error:
                faults.append(repr(error))

    with served("-C", str(champion.root), "--watch-s", "0.5") as (address, process):
        askers = [threading.Thread(target=ask, args=(address,)) for _ in range(4)]
        for asker in askers:
            asker.start()
        until = time.monotonic() + LIMIT_S
        while len(seen) < 20 and time.monotonic() < until:
            time.sleep(0.1)
        histories.client_of(champion).set_registered_model_alias("graftline", "champion", "2")
        while seen.count("2") < 20 and time.monotonic() < until:
            time.sleep(0.1)
        stop.set()
        for asker in askers:
            asker.join()
        process.terminate()
        told, _ = process.communicate(timeout=LIMIT_S)
    assert faults == []
    assert set(seen) == {"1", "2"}
    assert "graftline 2 serves now, in the place of graftline 1" in told
    assert "1 new model taken" in told


def test_mlflow_serves_the_registered_model_with_base64(
    champion: Workspace, tmp_path: Path
) -> None:
    rows = expected(champion, tmp_path)
    texts = [in_base64(data) for data in images()]
    bodies = [
        {"dataframe_records": [{"image": text} for text in texts]},
        {"inputs": texts},
        {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}},
    ]
    with mlflow_served(champion) as port:
        for body in bodies:
            status, answer = invoked(port, body)
            assert status == 200, answer
            for row, told in zip(rows, answer["predictions"], strict=True):
                assert told["label"] == row["label"]
                for name, probability in row["probabilities"].items():
                    assert np.float32(told[f"p_{name}"]) == np.float32(probability)
        numbers = np.full((1, 28, 28, 1), 240, np.uint8).tolist()
        assert invoked(port, {"inputs": numbers})[1]["predictions"][0]["label"] == "bright"
        status, told = invoked(port, {"inputs": ["no base64!"]})
        assert (status, "is no base64" in told["message"]) == (400, True)


@contextmanager
def mlflow_served(workspace: Workspace) -> Iterator[int]:
    """The port of ``mlflow models serve`` with the champion."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["-m", "models:/graftline@champion", "-h", "127.0.0.1", "-p", str(port)]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": tracking.configure(workspace).uri,
        # It starts uvicorn by its name.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    with (workspace.root / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    identity = ProcessIdentity.of(process.pid)
    try:
        until = time.monotonic() + LIMIT_S
        while not answers("127.0.0.1", port, "/health"):
            log_text = (workspace.root / "mlflow.log").read_text()
            assert process.poll() is None and time.monotonic() < until, log_text
            time.sleep(0.5)
        yield port
    finally:
        end_group(identity)
        process.wait()


def invoked(port: int, body: dict[str, Any]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    connection.request(
        "POST", "/invocations", json.dumps(body), {"Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    told = json.load(answer)
    connection.close()
    return answer.status, told
