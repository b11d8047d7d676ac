"""A handful of kills; make torture has many."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tests.torture import place as places
from tests.torture import processes
from tests.torture.campaign import Campaign
from tests.torture.worker_kills import WorkerCampaign


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.parametrize("on_clusters", [False, True])
def test_a_handful_of_kills_loses_nothing(on_clusters: bool, tmp_path: Path) -> None:
    seed = int(os.environ.get("GRAFTLINE_TORTURE_SEED", "7"))
    processes.become_init()
    said: list[str] = []
    place = places.make(tmp_path, chunked=on_clusters)
    kind = WorkerCampaign if on_clusters else Campaign
    campaign = kind(place, kills=6, seed=seed, say=said.append)
    try:
        audit = campaign.run()
    finally:
        sys.stdout.write("\n".join(said))
        for process in processes.marked(campaign.place.mark):
            process.kill()
    assert campaign.losses == []
    assert len(campaign.done) == 6
    assert len(audit) > 5


def test_a_kill_of_every_reach_hits_what_it_should(tmp_path: Path) -> None:
    """The harness itself: a leader, a member of its group, and one with a session of its own."""
    import subprocess

    code = (
        "import subprocess, sys, time\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "subprocess.Popen(sleep)\n"
        "subprocess.Popen(sleep, start_new_session=True)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    for reach, expected in (("group", 2), ("power cut", 3)):
        mark = f"{tmp_path.name}-{reach}"
        leader = subprocess.Popen(
            [sys.executable, "-S", "-c", code],
            env={**os.environ, places.MARK: mark},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert leader.stdout and leader.stdout.readline() == b"ready\n"
        _await_marked(mark, 3)
        assert processes.kill(leader.pid, mark, reach) == expected
        leader.wait()
        leader.stdout.close()
        left = processes.marked(mark)
        assert len(left) == 3 - expected
        for process in left:
            process.kill()


def _await_marked(mark: str, count: int, limit_s: float = 30.0) -> None:
    """A process bears its mark a moment after its parent was told that it had started."""
    until = time.monotonic() + limit_s
    while len(processes.marked(mark)) < count and time.monotonic() < until:
        time.sleep(0.02)
