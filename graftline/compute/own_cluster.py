"""A scheduler and workers that Graftline starts, on this machine and for this project alone.

Everybody with an account on the machine can reach a port on 127.0.0.1, and a scheduler runs what it
is told to. So these speak TLS with a certificate of their own, made anew at each start and kept,
if at all, where nobody else may read it.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from graftline.core.errors import ClusterError
from graftline.core.installing import require
from graftline.core.private import keep_private
from graftline.core.processes import ProcessIdentity
from graftline.core.records import Record

_FOLDER = Path("var") / "cluster"
_POLL_S = 0.1
_GRACE_S = 20.0


class Served(Record):
    """``var/cluster/served.json``: a cluster that ``graftline cluster`` keeps."""

    lies_at = str(_FOLDER / "served.json")

    process: ProcessIdentity
    address: str
    certificate: str
    """File of the certificate, which is its own authority."""
    key: str
    """File of its key."""


def started(root: Path, workers: int, port: int = 0, security: Any = None) -> Any:
    """Starts a scheduler and workers of one thread each; they end with this process.

    Args:
        root: The project's folder.
        workers: How many.
        port: The scheduler's; 0 takes any.
        security: Dask's object with the certificate; None makes one that nobody else has.
    """
    import dask
    import distributed

    silence()
    scratch = root / _FOLDER
    keep_private(root / "var")
    scratch.mkdir(parents=True, exist_ok=True)
    # Each process has a web server that asks for no secret: it shall have nothing to say.
    quiet: dict[str, Any] = {
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        # Where the scheduler has a folder too, from which it would import modules.
        "temporary-directory": str(scratch),
    }
    with dask.config.set(quiet):
        return distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol="tls://",
            scheduler_port=port,
            security=security or distributed.Security.temporary(),
            dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            # The steps bound their memory themselves, and a paused worker would help nobody.
            memory_limit=0,
            local_directory=str(scratch),
            silence_logs=logging.CRITICAL,
        )


def silence() -> None:
    """Keeps Dask's own lines back: many for each lost worker. What matters is told by an error."""
    # Some of its loggers have a level of their own.
    for name in [one for one in logging.root.manager.loggerDict if one.startswith("distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def serving(root: Path, workers: int, port: int) -> Iterator[Served]:
    """Keeps a cluster for the steps of a project, until the block ends.

    Args:
        root: The project's folder.
        workers: How many.
        port: The scheduler's; 0 takes any.

    Raises:
        ClusterError: If one is kept already, or the port is taken.
        MissingPackageError: If Dask is not installed.
    """
    require("cluster", "a cluster", "graftline cluster")
    import distributed

    record = root / Served.lies_at
    if (known := served(root)) is not None:
        raise ClusterError(
            f"a cluster is up already, at {known.address} by process {known.process.pid}",
            where=str(record),
            fix="use it, or stop it first: graftline down",
        )
    security = distributed.Security.temporary()
    files = {
        "certificate": (root / _FOLDER / "certificate.pem", security.tls_client_cert),
        "key": (root / _FOLDER / "key.pem", security.tls_client_key),
    }
    keep_private(root / "var")
    try:
        for path, text in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(text)
        try:
            cluster = started(root, workers, port, security)
        except (OSError, RuntimeError) as error:
            raise ClusterError(
                f"the scheduler does not start: {first_cause(error)}",
                where=f"port {port}",
                fix="name another port with --port; 0 takes any",
            ) from error
        try:
            told = Served(
                process=ProcessIdentity.of(),
                address=cluster.scheduler_address,
                **{name: str(path) for name, (path, _) in files.items()},
            )
            told.write(record)
            yield told
        finally:
            with suppress(Exception):
                cluster.close(timeout=10)
    finally:
        for path in (record, *(path for path, _ in files.values())):
            path.unlink(missing_ok=True)


def served(root: Path) -> Served | None:
    """The cluster that is kept for a project; None if there is none."""
    found = Served.find(root / Served.lies_at)
    if found is None or found.process.elsewhere:
        return None
    return found if found.process.alive() else None


def end_served(root: Path) -> bool:
    """Ends the cluster that is kept for a project; whether there was one."""
    found = served(root)
    if found is None:
        return False
    os.kill(found.process.pid, signal.SIGTERM)
    until = time.monotonic() + _GRACE_S
    while found.process.alive() and time.monotonic() < until:
        time.sleep(_POLL_S)
    return True


def first_cause(error: BaseException) -> BaseException:
    """Where an error comes from: Dask says in two more that something has failed to start."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
