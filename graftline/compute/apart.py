"""Work in a process of its own beside a worker, for what leaves memory behind.

TensorFlow gives back little of what a traced network took (:mod:`graftline.core.fresh_start`). A
worker of a cluster cannot start anew as a step does: others' chunks may lie in it. Its helper can.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from graftline.compute.cores import available_cores, using_workers
from graftline.compute.work import Arrays, Chunk, Work
from graftline.core import fresh_start
from graftline.core.errors import ClusterError
from graftline.core.fresh_start import OvergrownError

_GRACE_S = 20.0
_TRIES = 3


@contextmanager
def apart(work: Work[Chunk]) -> Iterator[Callable[[Chunk], Arrays]]:
    """Gives a function that does a work in another process, one chunk at a time.

    The process is started at the first chunk, again where it has grown too large, and ended with
    the block or with this process.

    Args:
        work: It is sent there, and opened there.
    """
    helper = _Helper(work)
    try:
        yield helper.run
    finally:
        helper.end()


class _Helper:
    def __init__(self, work: Work[Any]) -> None:
        self._work, self._threads = work, available_cores()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def run(self, chunk: Any) -> Arrays:
        with self._lock:
            answer = self._answer(chunk)
            while isinstance(answer, OvergrownError):
                self.end()
                answer = self._answer(chunk)
        if isinstance(answer, BaseException):
            raise answer
        arrays: Arrays = answer
        return arrays

    def end(self) -> None:
        """Ends the process, which takes away its files."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.send(None)
            self._connection.close()
        if self._process is not None:
            try:
                self._process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = self._connection = None

    def _answer(self, chunk: Any) -> Any:
        for _ in range(_TRIES):
            try:
                if self._connection is None:
                    self._connection = self._started()
                self._connection.send(chunk)
                return self._connection.recv()
            except (EOFError, OSError):
                # Ended from outside, as workers are; the system may want its memory.
                self.end()
        raise ClusterError(
            f"the process that worked on it ended {_TRIES} times before it was done",
            where=f"{socket.gethostname()}, beside the worker of process {os.getpid()}",
            fix="see whether memory or processes are at their limit there; fewer workers need less",
        )

    def _started(self) -> Connection:
        ours, theirs = Pipe()
        number = theirs.fileno()
        command = [sys.executable, "-m", __name__, str(number)]
        self._process = subprocess.Popen(command, pass_fds=[number], stdin=subprocess.DEVNULL)
        theirs.close()
        ours.send((self._work, self._threads))
        return ours


def main(number: int) -> None:
    """The helper itself.

    Args:
        number: Of the open file through which it is told what to do.
    """
    # Ctrl-C goes to all processes of a terminal; the worker ends its helper itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(number)
    fresh_start.allow()
    asked: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(connection, asked), daemon=True).start()
    work, threads = asked.get()
    with using_workers(threads), work.opened() as function:
        while (chunk := asked.get()) is not None:
            try:
                answer: Any = function(chunk)
            # Whatever it is, the worker is to raise it.
            except Exception as error:
                answer = error
            try:
                connection.send(answer)
            # Some errors of libraries cannot be sent; nothing of them has gone out then.
            except (TypeError, AttributeError, pickle.PicklingError):
                connection.send(RuntimeError(f"{type(answer).__name__}: {answer}"))


def _listen(connection: Connection, asked: SimpleQueue[Any]) -> None:
    """Puts down what is asked. Where the worker is gone, nobody waits for an answer."""
    told: Any = ""
    while told is not None:
        try:
            told = connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        asked.put(told)


if __name__ == "__main__":
    main(int(sys.argv[1]))
