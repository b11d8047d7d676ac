"""The clock jumps back by an hour in the middle of a run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from graftline.core.stages import STAGES
from tests import histories
from tests.flows import toy
from tests.torture import toys

pytestmark = [pytest.mark.slow, pytest.mark.kill]

COMPILER = shutil.which("cc")


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler to make another clock with")
def test_a_run_outlives_it(tmp_path: Path, prefect_api: str) -> None:
    workspace = toys.make(tmp_path)
    library, jumps = tmp_path / "clock.so", tmp_path / "jumps"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    environment = {
        "PREFECT_API_URL": prefect_api,
        "LD_PRELOAD": str(library),
        "GRAFTLINE_CLOCK_JUMPS": str(jumps),
    }
    flow = toys.start(workspace, *toy.command(), environment={**environment, "TOY_WAITS": "train"})
    toys.wait_for(workspace.var / "waiting")
    jumps.touch()
    (workspace.var / "go").touch()
    code, said = toys.ended(flow)
    assert code == 0, said
    assert task_states() == dict.fromkeys(toys.STEPS, "COMPLETED")
    assert toys.dvc_status(workspace) == {}
    [run] = histories.runs_of(workspace)
    assert run.info.status == "FINISHED"
    code, said = toys.ended(toys.start(workspace, *toy.command(), environment=environment))
    assert code == 0, said
    assert toy.ran(workspace) == list(STAGES)


def task_states() -> dict[str, str]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        newest = client.read_flow_runs(limit=1, sort=FlowRunSort.EXPECTED_START_TIME_DESC)[0]
        runs = client.read_task_runs()
    return {
        run.name: run.state.type.value for run in runs if run.state and run.flow_run_id == newest.id
    }
