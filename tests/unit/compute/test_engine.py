from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from graftline.compute import map_chunks, working_on
from graftline.core.errors import ClusterError
from graftline.core.params import ComputeParams
from tests.unit.compute.kept import ROOT, kept_cluster
from tests.unit.compute.squares import Squares


def squares(chunks: int, work: Squares | None = None) -> list[int]:
    found = []
    work = work or Squares()
    for chunk, arrays in map_chunks("squares", work, ([n, n + 1] for n in range(chunks))):
        assert len(chunk) == len(arrays["squares"])
        found += arrays["squares"].tolist()
    return found


EXPECTED = [number**2 for n in range(12) for number in (n, n + 1)]


@pytest.mark.parametrize("workers", [None, 1, 2, 3])
def test_threads_keep_the_order(tmp_path: Path, workers: int | None):
    with working_on(tmp_path, ComputeParams(workers=workers), "load"):
        assert squares(12) == EXPECTED
    assert list(tmp_path.iterdir()) == []


def test_an_error_tells_of_its_chunk(tmp_path: Path):
    with (
        working_on(tmp_path, ComputeParams(workers=2), "load"),
        pytest.raises(ValueError, match="7 is not liked") as told,
    ):
        squares(12, Squares(fails_at=7))
    assert told.value.__notes__ == ["at chunk 7"]


def test_a_cluster_gives_the_same_and_leaves_nothing_behind(tmp_path: Path):
    with working_on(tmp_path, ComputeParams(engine="dask", workers=1), "load", "key"):
        assert squares(12) == EXPECTED
        parts = sorted((tmp_path / "var" / "parts" / "load" / "squares").iterdir())
        assert [part.name for part in parts] == [f"{n:08d}.npz" for n in range(12)]
        # An error crosses, and so do small results without files.
        with pytest.raises(ValueError, match="3 is not liked") as told:
            list(map_chunks("odd", Squares(fails_at=3), [[1], [3]]))
        assert "at chunk 2" in told.value.__notes__
        sent = list(map_chunks("small", Squares(), [[5]], keep=False))
        assert sent[0][1]["squares"].tolist() == [25]
    assert not (tmp_path / "var" / "parts" / "load").exists()
    assert not list((tmp_path / "var" / "cluster").glob("nonce-*"))


@pytest.mark.slow
def test_finished_parts_of_the_same_key_are_taken_up(tmp_path: Path):
    folder = tmp_path / "var" / "parts" / "load"
    (folder / "squares").mkdir(parents=True)
    for key, taken in (("another", False), ("key", True)):
        (folder / "squares").mkdir(parents=True, exist_ok=True)
        (folder / "key").write_text("key")
        np.savez(folder / "squares" / "00000000.npz", squares=np.array([100, 200]))
        with working_on(tmp_path, ComputeParams(engine="dask", workers=1), "load", key):
            assert (squares(3)[:2] == [100, 200]) == taken


def test_work_for_a_gpu_needs_no_workers_of_the_steps_own(tmp_path: Path) -> None:
    with working_on(tmp_path, ComputeParams(engine="dask", workers=2), "extract"):
        done = map_chunks("pids", Squares(0), ([n] for n in range(3)), resources={"GPU": 1})
        assert {int(arrays["pid"][0]) for _, arrays in done} == {os.getpid()}


@pytest.mark.slow
def test_work_for_a_resource_goes_to_the_workers_that_offer_it(tmp_path: Path):
    def pids(resources: dict[str, float]) -> set[int]:
        chunks = ([n] for n in range(12))
        done = map_chunks("pids", Squares(0.1), chunks, keep=False, resources=resources)
        return {int(arrays["pid"][0]) for _, arrays in done}

    with kept_cluster(tmp_path) as told:
        params = ComputeParams(engine="dask", address=told.address)
        with (
            working_on(tmp_path, params, "load"),
            pytest.raises(ClusterError, match="no worker offers GPU=1") as refused,
        ):
            pids({"GPU": 1})
        assert '--resources "GPU=1"' in str(refused.value)
        tls = ("--tls-ca-file", told.certificate, "--tls-cert", told.certificate)
        command = ["dask", "worker", told.address, *tls, "--tls-key", told.key, "--no-dashboard"]
        command += ["--nworkers", "1", "--nthreads", "1", "--resources", "GPU=1"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            [sys.executable, "-m", *command], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
        ) as worker:
            try:
                assert worker.stderr is not None
                assert any(b"Registered to" in line for line in worker.stderr)
                with working_on(tmp_path, params, "load"):
                    [offering] = pids({"GPU": 1})
                    assert pids({}) > {offering}
                children = psutil.Process(worker.pid).children(recursive=True)
                assert offering in {child.pid for child in children}
            finally:
                worker.terminate()
