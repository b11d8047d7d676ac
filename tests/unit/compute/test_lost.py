"""What a lost worker, scheduler or step costs: a chunk's time, an error, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import distributed
import psutil
import pytest

from graftline.compute import cluster, map_chunks, working_on
from graftline.core.errors import ClusterError
from graftline.core.params import ComputeParams
from tests.unit.compute.kept import ROOT, kept_cluster
from tests.unit.compute.squares import Squares

CHUNKS = 24
EXPECTED = [number**2 for number in range(CHUNKS)]
pytestmark = [pytest.mark.slow, pytest.mark.kill]


def squares(
    root: Path, params: ComputeParams, kill_after: int = -1, pid: int = 0, stop_after: int = -1
) -> list[int]:
    """Squares numbers one by one; kills a process on the way, by default the last one's worker.

    With ``stop_after`` it is stopped, as one that hangs.
    """
    found = []
    with working_on(root, params, "load", "key"):
        chunks = map_chunks("squares", Squares(0.2), ([n] for n in range(CHUNKS)))
        for number, (_, arrays) in enumerate(chunks):
            found += arrays["squares"].tolist()
            if number == kill_after:
                os.kill(pid or int(arrays["pid"][0]), signal.SIGKILL)
            elif number == stop_after:
                os.kill(pid, signal.SIGSTOP)
    return found


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=30)[1]


def test_a_killed_worker_costs_its_chunk(tmp_path: Path):
    assert squares(tmp_path, ComputeParams(engine="dask", workers=2), kill_after=3) == EXPECTED


def test_a_worker_that_is_killed_at_the_start_costs_nothing(tmp_path: Path):
    def kill_first() -> None:
        while True:
            for child in psutil.Process().children():
                if "spawn_main" in " ".join(child.cmdline()):
                    time.sleep(0.5)
                    child.kill()
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_first)
    killer.start()
    assert squares(tmp_path, ComputeParams(engine="dask", workers=2)) == EXPECTED
    killer.join()


def test_a_worker_that_dies_with_a_result_before_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    waited = distributed.wait
    seen: list[str] = []

    def wait(futures: list[Any], **given: Any) -> Any:
        done = waited(futures, **given)
        if not seen:
            for child in psutil.Process().children():
                if "spawn_main" in " ".join(child.cmdline()):
                    child.children()[0].kill() if child.children() else child.kill()
            until = time.monotonic() + 20
            while futures[0].status == "finished" and time.monotonic() < until:
                time.sleep(0.01)
            seen.append(futures[0].status)
        return done

    monkeypatch.setattr(distributed, "wait", wait)
    assert squares(tmp_path, ComputeParams(engine="dask", workers=2)) == EXPECTED
    assert seen == ["lost"]


def test_after_a_killed_scheduler_the_next_start_goes_on_from_the_parts(tmp_path: Path):
    with kept_cluster(tmp_path) as told:
        workers = psutil.Process(told.process.pid).children(recursive=True)
        params = ComputeParams(engine="dask", address=told.address)
        with pytest.raises(ClusterError, match="the scheduler was lost at chunk") as lost:
            squares(tmp_path, params, kill_after=7, pid=told.process.pid)
        assert "run again" in str(lost.value)
        assert gone(workers)
    folder = tmp_path / "var" / "parts" / "load" / "squares"
    parts = {part: part.stat().st_mtime_ns for part in folder.glob("*.npz")}
    assert 8 <= len(parts) < CHUNKS
    with kept_cluster(tmp_path) as told:
        params = ComputeParams(engine="dask", address=told.address)
        with working_on(tmp_path, params, "load", "key"):
            found = []
            for _, arrays in map_chunks("squares", Squares(), ([n] for n in range(CHUNKS))):
                found += arrays["squares"].tolist()
            assert {part: part.stat().st_mtime_ns for part in parts} == parts
    assert found == EXPECTED


def test_a_scheduler_that_hangs_is_a_lost_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cluster, "_ANSWER_S", 3.0)
    with kept_cluster(tmp_path) as told:
        scheduler = psutil.Process(told.process.pid)
        params = ComputeParams(engine="dask", address=told.address)
        began = time.monotonic()
        try:
            with pytest.raises(ClusterError, match="the scheduler was lost at chunk"):
                squares(tmp_path, params, stop_after=3, pid=scheduler.pid)
        finally:
            scheduler.resume()
        assert time.monotonic() - began < 30
        assert squares(tmp_path, params) == EXPECTED


def test_a_worker_that_hangs_is_a_lost_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(cluster, "_ANSWER_S", 3.0)
    # Dask's own five minutes.
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL", "5s")
    with kept_cluster(tmp_path) as told:
        params = ComputeParams(engine="dask", address=told.address)
        children = psutil.Process(told.process.pid).children()
        hanging = [child for child in children if "spawn_main" in " ".join(child.cmdline())][0]
        hanging.suspend()
        try:
            assert squares(tmp_path, params) == EXPECTED
        finally:
            # Dask has ended it, and started another.
            with suppress(psutil.NoSuchProcess):
                hanging.resume()
    assert "no answer for 3 s from tls://127.0.0.1:" in caplog.text


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_with_the_step_go_the_workers_that_it_has_started(tmp_path: Path, how: signal.Signals):
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.unit.compute.test_lost import *\n"
        "squares(Path(sys.argv[1]), ComputeParams(engine='dask', workers=2))\n"
    )
    script = tmp_path / "step.py"
    script.write_text(f"if __name__ == '__main__':\n    {code.replace(chr(10), chr(10) + '    ')}")
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        folder = tmp_path / "var" / "parts" / "load" / "squares"
        until = time.monotonic() + 90
        while not list(folder.glob("*.npz")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        # A terminal's Ctrl-C goes to all of them.
        os.killpg(process.pid, how) if how == signal.SIGINT else process.kill()
        _, told = process.communicate(timeout=60)
        assert gone(workers)
        if how == signal.SIGINT:
            assert told.count("Traceback") == 1, told
    finally:
        process.kill()
