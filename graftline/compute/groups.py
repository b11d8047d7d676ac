"""Processes that train together, on one machine or on several: who they are, and what if one dies.

TensorFlow finds them in ``TF_CONFIG``. A process that has lost another cannot go on: what it waits
for never comes, or TensorFlow ends it. So each of them is the child of one that starts it again,
and the group goes on from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from graftline.core.errors import ParamsError, WorkerLostError
from graftline.core.params import ComputeParams
from graftline.core.processes import termination_as_interrupt

GROUP_VARIABLE = "TF_CONFIG"
"""In which TensorFlow finds the processes of a group, and which of them this one is."""
_CHILD_VARIABLE = "GRAFTLINE_GROUP_CHILD"
STARTS = 20
"""How often a group is started before it is given up."""
_CANNOT_LISTEN = "Could not start gRPC server"
"""What TensorFlow says if the port of this process is taken."""
_DIGEST_BYTES = 7
_FORM = '{"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}'
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Group:
    """Processes that train together.

    Args:
        addresses: ``host:port`` of each.
        index: Which of them this process is. The first one leads: it alone writes.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def leads(self) -> bool:
        """Whether this process writes what the group comes to."""
        return self.index == 0


def is_of_workers(compute: ComputeParams) -> bool:
    """Whether this process is to form a group with the workers of a Dask scheduler."""
    return (
        compute.strategy == "multi_worker"
        and compute.address is not None
        and GROUP_VARIABLE not in os.environ
    )


def group_of(compute: ComputeParams) -> Group | None:
    """The group that this process trains in; None if it trains alone.

    Raises:
        ParamsError: If ``compute.strategy`` asks for a group and TF_CONFIG names none.
    """
    text = os.environ.get(GROUP_VARIABLE)
    if compute.strategy not in ("auto", "multi_worker") or (
        text is None and compute.strategy == "auto"
    ):
        return None
    problem = "is not set" if text is None else "names no group"
    try:
        config = json.loads(text or "{}")
        addresses = tuple(map(str, config["cluster"]["worker"]))
        index, kind = int(config["task"]["index"]), config["task"]["type"]
        if set(config["cluster"]) == {"worker"} and kind == "worker" and index < len(addresses):
            return Group(addresses, index) if len(addresses) > 1 else None
    except (ValueError, KeyError, TypeError):
        pass
    raise ParamsError(
        f"compute.strategy is {compute.strategy}, but {GROUP_VARIABLE} {problem}",
        where=f"the environment variable {GROUP_VARIABLE}",
        allowed=_FORM,
        fix=f"set {GROUP_VARIABLE} for each of the processes, the index counted from 0; or name a "
        "Dask scheduler whose workers join (compute.engine: dask and compute.address); or set "
        "compute.strategy to none",
    )


def environment_of(addresses: Sequence[str], index: int) -> dict[str, str]:
    """What tells a process that it is one of a group.

    Args:
        addresses: ``host:port`` of each process, the same everywhere.
        index: Which of them it is.
    """
    config = {"cluster": {"worker": [*addresses]}, "task": {"type": "worker", "index": index}}
    return {GROUP_VARIABLE: json.dumps(config)}


def group_child(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that is started again when its group breaks.

    Args:
        environment: What else it gets.
    """
    # What breaks is told by its parent; TensorFlow reports one that has done its part as crashed.
    return {**environment, _CHILD_VARIABLE: "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def is_started_again() -> bool:
    """Whether this process is the child of one that starts it again when the group breaks."""
    return _CHILD_VARIABLE in os.environ


def started_again(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs a command, and again whenever another process of its group is lost, or itself.

    Args:
        command: It ends with :data:`WorkerLostError.exit_code`, or by a signal, if the group broke.
        environment: Of the command.

    Returns:
        How it ended.

    Raises:
        WorkerLostError: If the group breaks again and again.
    """
    of_child = {**environment, **group_child({})}

    def start() -> int | None:
        code = _ended(of_child, command)
        if code < 0:
            _LOG.warning("signal %d ended this process of the group", -code)
        return None if code < 0 or code == WorkerLostError.exit_code else code

    return until_it_holds(
        start,
        where=f"the environment variable {GROUP_VARIABLE}",
        fix="have a look at the logs of its other processes, and start all of them again",
    )


def until_it_holds(start: Callable[[], int | None], *, where: str, fix: str) -> int:
    """Starts a group, or one of its processes, again whenever the group breaks.

    Args:
        start: Does it once; gives how the group ended, or None if it broke.
        where: What the error names if it breaks again and again.
        fix: What can be done then.

    Returns:
        How it ended.

    Raises:
        WorkerLostError: If it breaks again and again.
    """
    for _ in range(STARTS):
        if (code := start()) is not None:
            return code
        _LOG.warning(
            "the group of processes that train together has broken; it starts again, and "
            "training goes on from the last checkpoint"
        )
    raise WorkerLostError(
        f"the group of processes that train together broke {STARTS} times", where=where, fix=fix
    )


def _ended(environment: Mapping[str, str], command: Sequence[str]) -> int:
    # Its input tells the child when this process is no more.
    with (
        termination_as_interrupt(),
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as process,
    ):
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise


def end_with_parent() -> None:
    """Has this process end when the one that starts it again is no more, however that ended."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os._exit(WorkerLostError.exit_code)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def taken_port_told(group: Group) -> Iterator[None]:
    """Has TensorFlow say that another process has the port at which this one is to be found.

    Nothing holds a port between its choice and its use. A group that starts again is given others,
    unless the user has chosen them: then the same one is tried, which may be free by then.

    Raises:
        WorkerLostError: If it is so while the block runs.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.UnknownError as error:
        if _CANNOT_LISTEN not in str(error):
            raise
        raise WorkerLostError(
            "this process of the group that trains together cannot be found by the others: its "
            "port is taken",
            where=f"{GROUP_VARIABLE}: {group.addresses[group.index]}",
            fix="nothing if the port is not of your choice: the group starts again with others; in "
            f"a {GROUP_VARIABLE} of your own name another port, for all processes alike",
        ) from error


@contextmanager
def losses_told(group: Group | None) -> Iterator[None]:
    """Has what TensorFlow raises when a process of the group is lost say so.

    Raises:
        WorkerLostError: If one is lost while the block runs.
    """
    import tensorflow as tf

    errors = tf.errors
    broken = (
        errors.UnavailableError,
        errors.AbortedError,
        errors.CancelledError,
        errors.DeadlineExceededError,
        errors.InternalError,
        errors.UnknownError,
    )
    try:
        yield
    except broken as error:
        if group is None:
            raise
        raise WorkerLostError(
            "a process of the group that trains together is lost",
            where=f"{GROUP_VARIABLE}: {', '.join(group.addresses)}",
            fix="start it again, with the same command; the others start again by themselves, and "
            "training goes on from the last checkpoint",
        ) from error


def digest_of(text: str) -> int:
    """What stands for a text among the processes of a group."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:_DIGEST_BYTES])


def same_everywhere(strategy: Any, text: str) -> bool:
    """Whether all processes of a group say the same, such as what they train on.

    Args:
        strategy: The group's; each of its processes asks at the same point.
        text: What this process says.
    """
    import tensorflow as tf

    @tf.function  # type: ignore[untyped-decorator]
    def gathered(own: Any) -> Any:
        return strategy.gather(strategy.run(tf.identity, (own,)), axis=0)

    own = tf.constant([digest_of(text)], tf.int64)
    found = gathered(own).numpy()
    return bool((found == found[0]).all())
