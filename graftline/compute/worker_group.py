"""A group of processes that train together, formed of the workers of a Dask scheduler.

The process that asks for it leads. Each worker starts one more that trains along, as its child:
``graftline train`` with a TF_CONFIG of its own. If one is lost, all are started again, and training
goes on from the last checkpoint.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from graftline.compute.devices import VISIBLE, cards, resolved_device, sharing_cards
from graftline.compute.groups import environment_of, group_child, until_it_holds
from graftline.compute.work import resources_of
from graftline.compute.worker import Proof, problem
from graftline.core.counts import counted
from graftline.core.errors import ClusterError, WorkerLostError
from graftline.core.params.compute import ComputeParams
from graftline.core.processes import termination_as_interrupt

if TYPE_CHECKING:
    from graftline.compute.cluster import Cluster

_LOG = logging.getLogger(__name__)
_FOLDER = Path("var") / "cluster" / "members"
_POLL_S = 0.5
_WORKERS_S = 120.0
_GRACE_S = 15.0
"""How long one of the group has to see by itself that it is broken, or that it has to end."""
_LAST_LINES = 12
_STOPPED = -signal.SIGTERM


@dataclass(frozen=True)
class Member:
    """One that trains along.

    Args:
        proof: What its worker has to show first.
        command: What Python runs, in the project's folder.
        environment: What it gets beside its worker's own.
        output: The file that takes what it says.
    """

    proof: Proof
    command: tuple[str, ...]
    environment: Mapping[str, str]
    output: Path


def lead(root: Path, compute: ComputeParams, command: Sequence[str]) -> int:
    """Runs a command as the first of a group, and on each worker as one of the others.

    Args:
        root: The project's folder, which all of them see.
        compute: ``address`` names the scheduler; ``workers`` says how many of its workers join, by
            default as many as there are at the start.
        command: What Python runs; it trains as the group's TF_CONFIG says.

    Returns:
        How the leading process ended.

    Raises:
        ClusterError: If there are too few workers, or one cannot work, or fails, or if two would
            compute on one GPU.
        WorkerLostError: If the group breaks again and again.
    """
    from graftline.compute.cluster import Cluster

    device = resolved_device(compute.device)
    needed = resources_of(device)
    # All compute on the same kind of device as the one that leads.
    environment = {} if device == "gpu" else {VISIBLE: "-1"}
    with closing(Cluster(root, compute, "train")) as cluster, termination_as_interrupt():
        count = compute.workers or max(1, len(cluster.workers(needed)))
        _LOG.info(
            "%s on %s joins this process, and all train together",
            counted(count, "process", "processes"),
            cluster.address,
        )

        def start() -> int | None:
            chosen = _awaited_workers(cluster, count, needed)
            if device == "gpu":
                _refuse_shared_cards(cluster, chosen)
            attempt = _Attempt(cluster, chosen, needed, _Common(root, tuple(command), environment))
            try:
                return attempt.run()
            finally:
                attempt.end()

        return until_it_holds(
            start,
            where=f"compute.address: {compute.address}",
            fix=f"have a look at the logs of the workers, and at {root / _FOLDER}; then run again",
        )


def _refuse_shared_cards(cluster: Cluster, workers: Sequence[str]) -> None:
    """TensorFlow would take the refusal of the GPUs' library for a lost process, and try again."""
    with cluster.asked(None):
        found = cluster.ask(cards, workers=workers)
    places = [cards(), *(place for place in found.values() if isinstance(place, tuple))]
    if (host := sharing_cards(places)) is not None:
        raise ClusterError(
            f"two processes on {host} would train on the same GPU",
            where=f"compute.address: {cluster.address}",
            fix="set CUDA_VISIBLE_DEVICES for each of them to a GPU of its own; where all are on "
            "one machine, compute.strategy: mirrored needs no workers",
        )


def _awaited_workers(cluster: Cluster, count: int, needed: Mapping[str, float]) -> list[str]:
    until = time.monotonic() + _WORKERS_S
    while len(found := cluster.workers(needed)) < count:
        if time.monotonic() > until:
            offering = f" that offer {', '.join(needed)}" if needed else ""
            raise ClusterError(
                f"{counted(count, 'worker')} should train along, and the scheduler has "
                f"{len(found)}{offering}",
                where=f"compute.address: {cluster.address}",
                fix="start workers (docs/cluster.md), or let compute.workers say how many take "
                "part, and run again: training goes on from the last checkpoint",
            )
        time.sleep(_POLL_S)
    return found[:count]


@dataclass(frozen=True)
class _Common:
    """What all of a group have in common.

    Args:
        root: The project's folder.
        command: What Python runs.
        environment: What those on the workers get beside their worker's own.
    """

    root: Path
    command: tuple[str, ...]
    environment: Mapping[str, str]


class _Attempt:
    """The group from its forming to its end, or to the loss of one of it."""

    def __init__(
        self, cluster: Cluster, workers: Sequence[str], needed: Mapping[str, float], common: _Common
    ) -> None:
        self._cluster, self._command = cluster, common.command
        self._leader: subprocess.Popen[bytes] | None = None
        # By the worker's address: what it says when its member has ended, and where that talks to.
        self._members: dict[str, tuple[Any, Path]] = {}
        with cluster.asked(None):
            ports = cluster.ask(free_port, workers=workers)
        self._complete = all(isinstance(ports.get(worker), int) for worker in workers)
        if not self._complete:
            return
        addresses = [
            _joined(_own_host(cluster.address), free_port()),
            *(_joined(_host(worker), ports[worker]) for worker in workers),
        ]
        self._own = {**os.environ, **group_child(environment_of(addresses, 0))}
        nonce = secrets.token_hex(4)
        for index, worker in enumerate(workers, 1):
            output = common.root / _FOLDER / f"{index}.txt"
            environment = {**common.environment, **group_child(environment_of(addresses, index))}
            member = Member(cluster.proof, common.command, environment, output)
            future = cluster.client.submit(
                train_along,
                member,
                key=f"train-{nonce}-{index}",
                workers=[worker],
                resources=dict(needed) or None,
                pure=False,
                allow_other_workers=False,
            )
            self._members[worker] = (future, output)

    def run(self) -> int | None:
        """How the leading process ended; None if the group has broken."""
        if not self._complete:
            return None
        # Its input tells the child when this process is no more.
        self._leader = subprocess.Popen(
            [sys.executable, *self._command], env=self._own, stdin=subprocess.PIPE
        )
        while (code := self._leader.poll()) is None and not self._broken():
            time.sleep(_POLL_S)
        with suppress(subprocess.TimeoutExpired):
            code = self._leader.wait(_GRACE_S)
        if code is not None and code >= 0 and code != WorkerLostError.exit_code:
            # It has come to its end, or has an error of its own: the others break by that.
            return code
        self._refuse_failed()
        return None

    def end(self) -> None:
        """Leaves nothing of the group at work, here or on the workers."""
        if self._leader is not None:
            _end(self._leader, signal.SIGINT)
        futures = [future for future, _ in self._members.values()]
        # A worker ends its member when nobody waits for that any more.
        with suppress(Exception):
            self._cluster.client.cancel(futures, force=True)
        until = time.monotonic() + _GRACE_S
        while time.monotonic() < until and not self._cluster.is_lost:
            try:
                left = self._cluster.ask(members_at_work, limit_s=_GRACE_S)
            except Exception:
                return
            if not any(isinstance(one, int) and one for one in left.values()):
                return
            time.sleep(_POLL_S)

    def _broken(self) -> bool:
        """Whether a worker is gone, or its member has ended other than well."""
        there = set(self._cluster.workers())
        for worker, (future, _) in self._members.items():
            if future.done():
                if future.status != "finished" or future.result() != 0:
                    return True
            elif worker not in there:
                return True
        return False

    def _refuse_failed(self) -> None:
        """Tells of a member that failed for another reason than that another was lost."""
        until = time.monotonic() + _GRACE_S
        while any(not future.done() for future, _ in self._members.values()):
            if time.monotonic() > until or not set(self._members) <= set(self._cluster.workers()):
                break
            time.sleep(_POLL_S)
        for worker, (future, output) in self._members.items():
            if not future.done():
                continue
            if future.status == "error":
                future.result()
            code = future.result() if future.status == "finished" else None
            if code is None or code <= 0 or code == WorkerLostError.exit_code:
                continue
            raise ClusterError(
                "\n  ".join([f"the process that trains along on {worker} failed:", *_last(output)]),
                where=str(output),
                fix="mend that there, and run again: training goes on from the last checkpoint",
            )


_at_work: list[subprocess.Popen[bytes]] = []
"""The members that this worker has started."""


def train_along(member: Member) -> int:
    """Runs one of a group's processes to its end, in a worker.

    It ends with its worker, however that ends, and when nobody waits for it any more.

    Raises:
        ClusterError: If this worker is not fit for it.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    if (wrong := problem(member.proof)) is not None:
        raise ClusterError(f"the worker {worker.address} {wrong}", where=str(member.proof.root))
    member.output.parent.mkdir(parents=True, exist_ok=True)
    with (
        member.output.open("wb") as output,
        subprocess.Popen(
            [sys.executable, *member.command],
            cwd=member.proof.root,
            env={**os.environ, **member.environment},
            # The end of its input tells it when this process is no more.
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        _at_work.append(process)
        try:
            while (code := process.poll()) is None:
                task = worker.state.tasks.get(key)
                if task is None or task.state != "executing":
                    return _STOPPED
                time.sleep(_POLL_S)
            return code
        finally:
            _end(process, signal.SIGTERM)
            _at_work.remove(process)


def members_at_work() -> int:
    """How many processes train along as children of this worker."""
    return len(_at_work)


def free_port() -> int:
    """One that nobody uses on this machine."""
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def _own_host(address: str) -> str:
    """Under which address a scheduler's machine, and so its workers, reach this one."""
    parts = urlsplit(address)
    family, kind, _, _, target = socket.getaddrinfo(
        parts.hostname, parts.port, type=socket.SOCK_DGRAM
    )[0]
    # This sends nothing: it asks the system by which way it would.
    with socket.socket(family, kind) as one:
        one.connect(target)
        return str(one.getsockname()[0])


def _host(address: str) -> str:
    return urlsplit(address).hostname or ""


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _end(process: subprocess.Popen[bytes], by: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(by)
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            # It waits inside TensorFlow for one that does not come.
            process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _last(output: Path) -> list[str]:
    with suppress(OSError):
        text = output.read_text(encoding="utf-8", errors="replace")
        return [line for line in text.splitlines() if line.strip()][-_LAST_LINES:]
    return [f"see {output}"]
