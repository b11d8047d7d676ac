"""What happens with no hand on it: after a kill work goes on, and new images give a new model.

One checkout with a tiny network goes through the tests in their order. Each command is a process
of its own, as a user's or a worker's would be.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from graftline.core.params import read_record
from graftline.core.records.register import Registered
from graftline.core.workspace import Workspace
from graftline.operations.leftovers import remove_leftovers
from tests.flows.tiny import COMMIT, make, sh

pytestmark = pytest.mark.slow

SERVES = """
from prefect import serve
from prefect.types.entrypoint import EntrypointType
from flows.retrain import retrain
from flows.watch import watch
from graftline.core.workspace import Workspace
from graftline.orchestration.trigger import deployment_of

served = {"entrypoint_type": EntrypointType.MODULE_PATH}
serve(
    retrain.to_deployment(deployment_of(Workspace.here()).partition("/")[2], **served),
    watch.to_deployment("source", interval=30, parameters={"settle_s": 1.0}, **served),
)
"""
LIMIT_S = 900.0


def add_images(folder: Path, first: int, count: int) -> None:
    """Images of three classes that differ by where the light is."""
    rng = np.random.default_rng(first)
    for number in range(first, first + count):
        for label in range(3):
            pixels = rng.integers(0, 60, (20, 20), dtype=np.uint8)
            pixels[:, label * 7 : label * 7 + 6] += 150
            path = folder / f"class-{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def checkout(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("unattended")
    workspace = make(folder)
    add_images(folder / "images", 0, 30)
    record = json.loads(workspace.params_file.read_text())
    record["data"] = {"source": "folder", "path": str(folder / "images")}
    record["train"]["epochs"] = 2500
    workspace.params_file.write_text(json.dumps(record, indent=2))
    sh(workspace.root, *COMMIT, "a folder", "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", prefect_api)
        yield workspace


def wait_until(true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < until, f"waited in vain until {what}"
        time.sleep(0.5)


def newest(flow_name: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC)
        flows = {one.id: one.name for one in client.read_flows()}
    return next(run for run in runs if flows[run.flow_id] == flow_name)


def statuses(workspace: Workspace) -> list[str]:
    """How the tracked runs stand, the newest first."""
    code = (
        "from graftline.registry.tracking.store import configure, open_client\n"
        "from graftline.core.workspace import Workspace\n"
        "client, experiment = open_client(configure(Workspace.here()))\n"
        "print(*(run.info.status for run in client.search_runs([experiment])))\n"
    )
    return sh(workspace.root, sys.executable, "-c", code).splitlines()[-1].split()


def version(workspace: Workspace) -> str:
    return Registered.read(workspace.var / "registered.json").version


def triggers(workspace: Workspace) -> bool:
    """Makes the automation; it says no while there is no deployment that it could run."""
    command = [sys.executable, "-m", "graftline", "trigger"]
    ended = subprocess.run(command, cwd=workspace.root, capture_output=True, check=False)
    return ended.returncode == 0


def kill_with_all_descendants(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, so that nobody is left to clean up, as when the power goes."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in family:
        one.suspend()
    for one in family:
        one.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(family, timeout=30)


@pytest.mark.kill
def test_after_a_kill_the_next_start_cleans_up_and_goes_on(checkout: Workspace) -> None:
    folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join((folder, os.environ["PATH"]))}
    checkpoint = checkout.var / "checkpoints" / "train" / "standing.npz"
    with subprocess.Popen(
        [sys.executable, "-m", "flows.train"], cwd=checkout.root, env=environment
    ) as flow:
        wait_until(checkpoint.exists, "there is a checkpoint")
        kill_with_all_descendants(flow)
    killed = newest("train")
    assert killed.state_name == "Running"
    assert statuses(checkout) == ["RUNNING"]
    # What a kill in the middle of writing leaves; the process is that of the killed flow.
    half = checkout.root / "models" / f".trained.tmp-{flow.pid}-1-abcdefgh"
    half.mkdir()
    (half / "model.tflite").write_bytes(b"half")

    said = sh(checkout.root, sys.executable, "-m", "flows.train")

    assert "was set to Crashed: its process is gone" in said
    assert "that a killed process had left" in said
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(killed.id).state_name == "Crashed"
    assert newest("train").state_name == "Completed"
    assert statuses(checkout) == ["FINISHED", "KILLED"]
    logs = "".join(path.read_text() for path in checkout.var.glob("logs/*/train.log"))
    assert "goes on after " in logs
    assert not half.exists()
    assert remove_leftovers(checkout) == []
    assert json.loads(sh(checkout.root, "dvc", "status", "--json")) == {}
    assert version(checkout) == "1"


def test_new_images_give_a_new_challenger_with_no_hand_on_it(checkout: Workspace) -> None:
    # From here on training need not be long enough to be killed.
    sh(checkout.root, sys.executable, "-m", "flows.train", "--set", "train.epochs=2")
    before = version(checkout)
    log = checkout.var / "served.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-c", SERVES], cwd=checkout.root, stdout=output, stderr=output
        ) as served,
    ):
        try:
            wait_until(lambda: triggers(checkout), "the deployment is there")
            images = Path(read_record(checkout.params_file)["data"]["path"])
            add_images(images, 100, 10)
            wait_until(lambda: version(checkout) != before, f"there is a new version; see {log}")
            wait_until(
                lambda: newest("retrain").state_name in ("Completed", "Failed", "Crashed"),
                "the retraining has ended",
            )
        finally:
            served.terminate()
            served.wait(60)
    retrained = newest("retrain")
    assert retrained.state_name == "Completed"
    assert "30 added" in (retrained.state.message or "" if retrained.state else "")
    assert int(version(checkout)) == int(before) + 1
    assert json.loads(sh(checkout.root, "dvc", "status", "--json")) == {}
