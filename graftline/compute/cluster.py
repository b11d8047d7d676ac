"""The engine ``dask``: chunks go to the workers of a scheduler, or to such as the step starts.

What a step sends and what comes back are paths, positions and small records; arrays go through
files in the project's folder, which all machines share. What goes beyond this machine travels
encrypted, and what a step's own workers get does, too: who may talk to a worker may run what he
likes there.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from graftline.compute.cores import available_cores
from graftline.compute.own_cluster import Served, first_cause, served, silence, started
from graftline.compute.parts import part_file, read_part
from graftline.compute.work import Arrays, Work
from graftline.compute.worker import Proof, Task, code_of, forget, problem, run_chunk
from graftline.core.counts import counted
from graftline.core.errors import ClusterError
from graftline.core.installing import require
from graftline.core.params.compute import ComputeParams

_log = logging.getLogger("graftline.compute")
_CONNECT_S = 30
_POLL_S = 0.1
_LOOK_S = 1.0
"""How often a waiting step looks whether the scheduler and the workers are still there."""
_WITHOUT_WORKERS_S = 120.0
_ANSWER_S = 120.0
"""How long a scheduler or a worker may take to answer a small question: one that hangs, or whose
machine does, keeps its connection, and says nothing."""
_GOODBYE_S = 10.0
_MOST_NAMED = 10
_PAGE_S = 2.0
_TRIES = 3


class Cluster:
    """The workers of one step.

    Args:
        root: The project's folder, which all of them see under this name.
        params: Of ``compute``.
        step: The step's name.

    Raises:
        ClusterError: If there is no scheduler, or a worker is not fit for the step.
        MissingPackageError: If Dask is not installed.
    """

    def __init__(self, root: Path, params: ComputeParams, step: str) -> None:
        require("cluster", "the engine dask", "compute.engine: dask")
        import distributed

        silence()
        self._distributed = distributed
        self._root, self._params, self._step = root, params, step
        self._own: Any = None
        self._found, self._looked_s = 0, 0.0
        self.is_lost = False
        """Whether the scheduler is: of one that hangs an answer would be waited for in vain."""
        nonce = secrets.token_hex(16)
        # The sessions' files lie under var/, which other users of the machines cannot read.
        self._file = root / "var" / "cluster" / f"nonce-{nonce[:8]}"
        self.client = self._connected()
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(nonce, encoding="utf-8")
            self.proof = Proof(
                root=root,
                file=str(self._file.relative_to(root)),
                nonce=nonce,
                step=step,
                code=code_of(step),
                own=self._own is not None,
            )
            self._prove()
        except BaseException:
            self.close()
            raise

    def map(
        self,
        name: str,
        work: Work[Any],
        chunks: Iterable[Any],
        folder: Path | None,
        resources: Mapping[str, float],
    ) -> Iterator[tuple[Any, Arrays]]:
        """See :func:`graftline.compute.map_chunks`.

        Args:
            name: Of the map.
            work: What is done.
            chunks: To what.
            folder: Where the parts go; None has the arrays sent.
            resources: What a worker must offer.
        """
        self._refuse_lacking(resources)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        task = Task(f"{self.proof.nonce}-{name}", self.proof, work, folder)
        pending: deque[tuple[int, Any, Any]] = deque()
        try:
            for number, chunk in enumerate(chunks):
                future = None
                if folder is None or not part_file(folder, number).exists():
                    with self.asked(number):
                        future = self.client.submit(
                            run_chunk,
                            task,
                            number,
                            chunk,
                            key=f"{self._step}-{name}-{number}-{self.proof.nonce[:8]}",
                            pure=False,
                            resources=dict(resources) or None,
                        )
                pending.append((number, chunk, future))
                if len(pending) >= max(2, 2 * self._threads(number)):
                    yield self._first(pending, folder)
            while pending:
                yield self._first(pending, folder)
        finally:
            with suppress(Exception):
                self.client.cancel([future for *_, future in pending if future is not None])

    @property
    def address(self) -> str:
        """The scheduler's."""
        return str(self.client.scheduler.address)

    def workers(self, resources: Mapping[str, float] | None = None) -> list[str]:
        """The addresses of the workers that are there now, always in the same order.

        Args:
            resources: What they must offer.

        Raises:
            ClusterError: If the scheduler is lost.
        """
        with self.asked(None):
            if self.client.status != "running":
                raise self._lost(None)
            there = self._known_workers()
        needed = (resources or {}).items()
        return sorted(
            address
            for address, one in there.items()
            if all(one["resources"].get(name, 0) >= amount for name, amount in needed)
        )

    def ask(
        self,
        function: Callable[..., Any],
        *given: Any,
        workers: Sequence[str] | None = None,
        limit_s: float | None = None,
    ) -> dict[str, Any]:
        """Has workers do something small at once, whatever else they are at.

        Dask's own method waits for all of them, and so for one that hangs.

        Args:
            function: What.
            given: To the function.
            workers: Addresses; by default all that are there.
            limit_s: How long each may take, in seconds.

        Returns:
            By address what came back, or the error; a TimeoutError of who did not answer.
        """
        limit_s = limit_s or _ANSWER_S

        async def one(address: str) -> Any:
            asked = self.client.run(function, *given, workers=[address], on_error="return")
            try:
                return (await asyncio.wait_for(asked, limit_s))[address]
            except TimeoutError as error:
                return error

        async def each(addresses: Sequence[str]) -> list[Any]:
            return await asyncio.gather(*map(one, addresses))

        addresses = list(self._known_workers()) if workers is None else workers
        return dict(zip(addresses, self.client.sync(each, addresses), strict=True))

    def close(self) -> None:
        """Lets the workers go; those that the step has started end."""
        self._file.unlink(missing_ok=True)
        # Of a scheduler that is gone nothing can be asked any more.
        if self.client.status == "running" and not self.is_lost:
            with suppress(Exception):
                self.ask(forget, self.proof.nonce, limit_s=_GOODBYE_S)
        with suppress(Exception):
            self.client.close(timeout=2)
        if self._own is not None:
            with suppress(Exception):
                self._own.close(timeout=10)

    def _connected(self) -> Any:
        client = self._distributed.Client
        if self._params.address is None:
            # None but this process can talk to it.
            self._own = self._started()
            return client(self._own, timeout=_CONNECT_S, set_as_default=False)
        address = self._params.address
        try:
            return client(
                address, timeout=_CONNECT_S, security=self._security(address), set_as_default=False
            )
        except (OSError, TimeoutError) as error:
            raise ClusterError(
                f"no scheduler answers: {error}",
                where=f"compute.address: {address}",
                fix="start one (docs/cluster.md), or set compute.address to null, which starts "
                "workers on this machine",
            ) from error

    def _started(self) -> Any:
        workers = self._params.workers or available_cores()
        for _ in range(_TRIES - 1):
            # Dask gives up if a worker dies in its first second; one that the system has killed for
            # want of memory is no reason to end the step.
            with suppress(RuntimeError):
                return started(self._root, workers)
        try:
            return started(self._root, workers)
        except RuntimeError as error:
            raise ClusterError(
                f"the workers do not start: {first_cause(error)}",
                where=f"compute.workers: {self._params.workers}",
                fix="see whether memory or processes are at their limit; fewer workers need less "
                "(compute.workers), and compute.engine: local needs none",
            ) from error

    def _security(self, address: str) -> Any:
        if not address.startswith("tls:"):
            return None
        kept = Served.find(self._root / Served.lies_at)
        if kept is not None and kept.address == address:
            if served(self._root) is None:
                raise ClusterError(
                    "no scheduler answers: the cluster that graftline cluster kept there is gone",
                    where=f"compute.address: {address}",
                    fix="start it again: graftline cluster; it names its address",
                )
            return self._distributed.Security(
                require_encryption=True,
                tls_ca_file=kept.certificate,
                tls_client_cert=kept.certificate,
                tls_client_key=kept.key,
            )
        security = self._distributed.Security(require_encryption=True)
        missing = [
            name
            for name, value in (
                ("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", security.tls_ca_file),
                ("DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT", security.tls_client_cert),
                ("DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY", security.tls_client_key),
            )
            if not value
        ]
        if missing:
            raise ClusterError(
                "the scheduler is to be reached by TLS, and its certificates are not told",
                where=f"compute.address: {address}",
                allowed=f"files, named by {', '.join(missing)}, or in Dask's own configuration",
                fix="docs/cluster.md tells how to make and to name them; graftline cluster starts "
                "a scheduler on this machine whose certificate is found",
            )
        return security

    def _prove(self) -> None:
        """Names every worker that does not see the folder or runs other code."""
        until = time.monotonic() + _CONNECT_S
        found: dict[str, Any] = {}
        while not found:
            with self.asked(None):
                if not self._nthreads() and time.monotonic() < until:
                    time.sleep(_POLL_S)
                    continue
                answers = self.ask(problem, self.proof)
            silent = [one for one, said in answers.items() if isinstance(said, TimeoutError)]
            if silent:
                _log.warning("no answer for %g s from %s", _ANSWER_S, ", ".join(silent))
            # One that is lost meanwhile costs nothing; another comes, and proves itself then.
            found = {one: said for one, said in answers.items() if not isinstance(said, OSError)}
            if not found and time.monotonic() > until:
                raise self._without_workers(_CONNECT_S)
        wrong = {name: told for name, told in found.items() if told is not None}
        if wrong:
            lines = [f"{name} {_told(said)}" for name, said in wrong.items()][:_MOST_NAMED]
            if len(wrong) > _MOST_NAMED:
                lines.append(f"... and {len(wrong) - _MOST_NAMED} more")
            raise ClusterError(
                "\n  ".join(
                    [f"{counted(len(wrong), 'worker')} of {len(found)} cannot work here:", *lines]
                ),
                where=f"compute.address: {self._params.address}",
                allowed="workers that see the project folder under the same path, and run the same "
                "Graftline and packages as the step",
                fix="mend or stop these workers, and run again",
            )
        link = self._dashboard()
        _log.info(
            "%s at %s%s",
            counted(len(found), "worker"),
            self.client.scheduler.address,
            f"; dashboard: {link}" if link else "",
        )

    def _dashboard(self) -> str | None:
        """The address of the scheduler's page; None without one, as of what Graftline starts."""
        if self._own is not None or served(self._root) is not None:
            return None
        return reached_page(str(self.client.dashboard_link))

    def _threads(self, number: int) -> int:
        """How many chunks the workers work on at once; workers come and go."""
        now = time.monotonic()
        if now - self._looked_s > _LOOK_S:
            with self.asked(number):
                self._found = sum(self._nthreads().values())
            self._looked_s = now
        return self._found

    def _nthreads(self) -> dict[str, int]:
        threads: dict[str, int] = self.client.nthreads(callback_timeout=_ANSWER_S)
        return threads

    def _known_workers(self) -> dict[str, Any]:
        """What the scheduler tells of each worker, by its address."""
        # Dask's own method waits for ever, and hides that the connection is lost.
        told: dict[str, Any] = self.client.sync(
            self.client.scheduler.identity, n_workers=-1, callback_timeout=_ANSWER_S
        )
        workers: dict[str, Any] = told["workers"]
        return workers

    @contextmanager
    def asked(self, number: int | None) -> Iterator[None]:
        """Turns an error of the connection to the scheduler into one of ours.

        Args:
            number: Of the chunk that is waited for; None if it is none.
        """
        try:
            yield
        except (OSError, TimeoutError) as error:
            raise self._lost(number) from error

    def _lost(self, number: int | None) -> ClusterError:
        self.is_lost = True
        at = f" at chunk {number + 1} of {self._step}" if number is not None else ""
        return ClusterError(
            f"the scheduler was lost{at}",
            where=f"compute.address: {self._params.address}",
            fix="start it and its workers again, and run again: what is finished is taken up",
        )

    def _refuse_lacking(self, resources: Mapping[str, float]) -> None:
        if not resources:
            return
        with self.asked(None):
            offered = self._known_workers().values()
        for name, amount in resources.items():
            if not any(one["resources"].get(name, 0) >= amount for one in offered):
                raise ClusterError(
                    f"no worker offers {name}={amount:g}, which this work needs",
                    where=f"compute.address: {self._params.address}",
                    fix=f'start a worker with --resources "{name}={amount:g}"',
                )

    def _first(
        self, pending: deque[tuple[int, Any, Any]], folder: Path | None
    ) -> tuple[Any, Arrays]:
        number, chunk, future = pending.popleft()
        sent: Any = None if future is None else self._awaited(number, future)
        return chunk, sent if folder is None else read_part(part_file(folder, number))

    def _awaited(self, number: int, future: Any) -> Any:
        empty_since: float | None = None
        while True:
            try:
                with self.client.as_current():
                    self._distributed.wait([future], timeout=_LOOK_S)
            except CancelledError as error:
                raise self._lost(number) from error
            except TimeoutError:
                if self.client.status == "running":
                    empty_since = self._looked_at_workers(number, empty_since)
                    continue
            if self.client.status != "running" or future.status == "cancelled":
                raise self._lost(number)
            # One that is "lost" was done, and its worker has died since: it is done again.
            if future.status != "lost":
                return self._result(number, future)

    def _result(self, number: int, future: Any) -> Any:
        try:
            return future.result()
        # What was done may itself have met an OSError or a TimeoutError, and is to say so.
        except (self._distributed.comm.CommClosedError, CancelledError) as error:
            raise self._lost(number) from error
        except self._distributed.KilledWorker as error:
            raise ClusterError(
                f"chunk {number + 1} of {self._step} was lost with each worker that tried it: "
                f"{error}",
                where=f"compute.address: {self._params.address}",
                fix="look into the workers' logs; they may have been out of memory",
            ) from error
        except Exception as error:
            error.add_note(f"at chunk {number + 1}")
            raise

    def _looked_at_workers(self, number: int, empty_since: float | None) -> float | None:
        if self._threads(number):
            return None
        now = time.monotonic()
        if empty_since is not None and now - empty_since > _WITHOUT_WORKERS_S:
            raise self._without_workers(_WITHOUT_WORKERS_S)
        return empty_since or now

    def _without_workers(self, seconds: float) -> ClusterError:
        return ClusterError(
            f"the scheduler has had no worker for {seconds:.0f} s",
            where=f"compute.address: {self._params.address}",
            fix="start workers (docs/cluster.md), and run again: what is finished is taken up",
        )


def _told(said: object) -> str:
    if isinstance(said, ModuleNotFoundError):
        return f"has no Graftline: {said}"
    return said if isinstance(said, str) else f"answers with {type(said).__name__}: {said}"


def reached_page(link: str) -> str | None:
    """Where a scheduler's page answers; None where it does not.

    Args:
        link: What the scheduler tells: its own host, also where it has no page, or only shows it
            to those on its machine.
    """
    import httpx

    parts = urlsplit(link)
    links = [link]
    if _is_here(parts.hostname or ""):
        links.append(parts._replace(netloc=f"127.0.0.1:{parts.port}").geturl())
    for one in links:
        with suppress(httpx.HTTPError):
            if httpx.get(one, timeout=_PAGE_S, trust_env=False).is_success:
                return one
    return None


def _is_here(host: str) -> bool:
    """Whether a host is this machine: nobody can bind another's address."""
    try:
        family, kind, _, _, target = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as one:
            one.bind(target)
    except OSError:
        return False
    return True
