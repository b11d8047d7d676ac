"""Work in a process beside a worker: where it runs, and what ends it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from graftline.compute import Arrays
from graftline.compute.apart import apart
from graftline.core.errors import ClusterError, ParamsError
from graftline.core.fresh_start import OvergrownError

MOST = 2


@dataclass(frozen=True)
class Counted:
    """Tells its process, which takes two chunks and then wants to start anew."""

    folder: Path

    @contextmanager
    def opened(self) -> Iterator[Callable[[str], Arrays]]:
        done = []

        def function(chunk: str) -> Arrays:
            if len(done) == MOST:
                raise OvergrownError
            done.append(chunk)
            if chunk == "wrong":
                raise ParamsError("it is wrong", where="here")
            first = self.folder / "first"
            if chunk == "always" or (chunk == "killed" and not first.exists()):
                first.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return {"process": np.array([os.getpid()])}

        yield function
        (self.folder / f"ended-{os.getpid()}").touch()


@pytest.mark.slow
def test_a_process_that_grew_or_was_killed_is_replaced(tmp_path: Path) -> None:
    # Other tests may have left this process a child of its own, as multiprocessing's tracker.
    others = psutil.Process().children()
    with apart(Counted(tmp_path)) as function:
        took = [int(function(str(chunk))["process"][0]) for chunk in range(3)]
        assert took[0] == took[1] != took[2]
        assert (tmp_path / f"ended-{took[0]}").exists()
        with pytest.raises(ParamsError, match="it is wrong"):
            function("wrong")
        last = int(function("killed")["process"][0])
        assert psutil.pid_exists(last)
        with pytest.raises(ClusterError, match="ended 3 times"):
            function("always")
        assert psutil.Process().children() == others
        last = int(function("4")["process"][0])
    assert not psutil.pid_exists(last)
    assert (tmp_path / f"ended-{last}").exists()
