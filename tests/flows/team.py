"""The servers of a team, on loopback: PostgreSQL, an object store, Prefect's and MLflow's."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HOST = "127.0.0.1"
BUCKET = "team"
_DATABASES = ("prefect", "mlflow")
_PATIENCE_S = 600.0


def postgres_programs() -> Path | None:
    """Where PostgreSQL's programs lie, the newest version's; None where it is not installed."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    places = [path.parent for path in installed]
    if found := shutil.which("initdb"):
        places.append(Path(found).parent)
    return next(iter(places), None)


@dataclass
class Team:
    """Servers, and what tells their clients of them.

    Args:
        folder: Of the servers' logs.
        database: PostgreSQL's data, owned by its user.
        password: Of the databases.
        key: The object store's secret key.
        login: Prefect's user and password.
        port: PostgreSQL's.
        ports: Of Prefect's and MLflow's servers, and of the object store.
    """

    folder: Path
    database: Path
    password: str
    key: str
    login: str
    port: int
    ports: dict[str, int]
    store_process: subprocess.Popen[bytes] | None = None

    @property
    def prefect(self) -> str:
        """The address of Prefect's server."""
        return f"http://{HOST}:{self.ports['prefect']}"

    @property
    def mlflow(self) -> str:
        """The address of MLflow's server."""
        return f"http://{HOST}:{self.ports['mlflow']}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be written anywhere."""
        return self.password, self.key, self.login.partition(":")[2]

    @property
    def store(self) -> str:
        """The object store's address."""
        return f"http://{HOST}:{self.ports['store']}"

    @property
    def of_store(self) -> dict[str, str]:
        """What a client of the object store needs in its environment."""
        return {
            "AWS_ACCESS_KEY_ID": "graftline",
            "AWS_SECRET_ACCESS_KEY": self.key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": self.store,
        }

    @property
    def of_clients(self) -> dict[str, str]:
        """What a machine of the team has in its environment: no password of a database."""
        return {
            "PREFECT_API_URL": f"{self.prefect}/api",
            "PREFECT_API_AUTH_STRING": self.login,
            "MLFLOW_TRACKING_URI": self.mlflow,
            **self.of_store,
        }

    def address(self, driver: str, database: str) -> str:
        """Of a database, with the password."""
        user = f"graftline:{self.password}"
        return f"postgresql+{driver}://{user}@{HOST}:{self.port}/{database}"

    def start_database(self) -> None:
        """Starts PostgreSQL."""
        options = f"-c listen_addresses={HOST} -p {self.port} -k {self.database}"
        log = str(self.database / "log")
        self._postgres(
            "pg_ctl", "start", "-w", "-t", "300", "-D", self._data, "-l", log, "-o", options
        )

    def stop_database(self, mode: str = "immediate") -> None:
        """Stops PostgreSQL; immediate is as a crash."""
        self._postgres("pg_ctl", "stop", "-w", "-m", mode, "-D", self._data)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Has the database be gone, and the object store not answer, while the block runs."""
        with self.store_stopped():
            self.stop_database()
            try:
                yield
            finally:
                self.start_database()

    @contextmanager
    def store_stopped(self) -> Iterator[None]:
        """Has the object store not answer while the block runs."""
        assert self.store_process is not None
        self.store_process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.store_process.send_signal(signal.SIGCONT)

    def make_database(self) -> None:
        """Makes PostgreSQL's files, starts it, and makes the team's databases."""
        word = self.database / "word"
        word.write_text(self.password)
        word.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(word, "postgres", "postgres")
        self._postgres(
            *("initdb", "-D", self._data, "-U", "graftline", "-A", "scram-sha-256"),
            *("--pwfile", str(word), "--no-sync"),
        )
        word.unlink()
        self.start_database()
        for name in _DATABASES:
            self._postgres(
                *("createdb", "-h", HOST, "-p", str(self.port), "-U", "graftline", name),
                PGPASSWORD=self.password,
            )

    def dumped(self) -> str:
        """All that the databases hold, as text."""
        command = ("pg_dumpall", "-h", HOST, "-p", str(self.port), "-U", "graftline")
        return self._postgres(*command, PGPASSWORD=self.password)

    @property
    def _data(self) -> str:
        return str(self.database / "data")

    def _postgres(self, program: str, *arguments: str, **environment: str) -> str:
        folder = postgres_programs()
        assert folder is not None
        # It refuses to run as root.
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        command = [*(user if os.geteuid() == 0 else []), str(folder / program), *arguments]
        with tempfile.TemporaryFile("w+") as said:
            # What it starts keeps its output open.
            ended = subprocess.run(
                command,
                cwd=self.database,
                env={**os.environ, **environment, "HOME": str(self.database)},
                stdout=said,
                stderr=subprocess.STDOUT,
                check=False,
            )
            said.seek(0)
            text = said.read()
        assert ended.returncode == 0, text
        return text


@contextmanager
def team(folder: Path) -> Iterator[Team]:
    """Has all servers up while the block runs."""
    database = Path(tempfile.mkdtemp(prefix="graftline-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(database, "postgres", "postgres")
    one = Team(
        folder,
        database,
        password=secrets.token_hex(12),
        key=secrets.token_hex(20),
        login=f"team:{secrets.token_hex(12)}",
        port=free_port(),
        ports={name: free_port() for name in ("store", "prefect", "mlflow")},
    )
    processes: list[subprocess.Popen[bytes]] = []
    try:
        one.make_database()
        processes += [start_store(one), start_prefect(one), start_mlflow(one)]
        one.store_process = processes[0]
        for process, place in zip(
            processes, (one.store, one.prefect + "/api/health", one.mlflow + "/health"), strict=True
        ):
            _await(place, process)
        make_bucket(one)
        yield one
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                # A stopped one would not hear of it.
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
        with suppress(AssertionError):
            one.stop_database()
        shutil.rmtree(database, ignore_errors=True)


def start_store(one: Team) -> subprocess.Popen[bytes]:
    """An object store."""
    arguments = ("moto.server", "-H", HOST, "-p", str(one.ports["store"]))
    return _started(one, "store", arguments, {})


def make_bucket(one: Team) -> None:
    """Makes the team's bucket, empty."""
    _store_of(one).create_bucket(Bucket=BUCKET)


def stored(one: Team) -> Iterator[tuple[str, bytes]]:
    """All objects of the store, by their names."""
    client = _store_of(one)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for entry in page.get("Contents", ()):
            key = entry["Key"]
            yield key, client.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def _store_of(one: Team) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=one.store,
        aws_access_key_id="graftline",
        aws_secret_access_key=one.key,
        region_name="us-east-1",
    )


def start_prefect(one: Team) -> subprocess.Popen[bytes]:
    """Prefect's server over PostgreSQL, as docs/deployment.md starts it."""
    port = str(one.ports["prefect"])
    return _started(
        one,
        "prefect",
        ("prefect", "server", "start", "--host", HOST, "--port", port),
        {
            "PREFECT_HOME": str(one.folder / "prefect"),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": one.address("asyncpg", "prefect"),
            "PREFECT_SERVER_API_AUTH_STRING": one.login,
        },
    )


def start_mlflow(one: Team) -> subprocess.Popen[bytes]:
    """MLflow's server over PostgreSQL and the object store, as docs/deployment.md starts it."""
    port = str(one.ports["mlflow"])
    place = f"s3://{BUCKET}/mlflow"
    return _started(
        one,
        "mlflow",
        ("mlflow", "server", "--host", HOST, "--port", port, "--artifacts-destination", place),
        {
            "MLFLOW_BACKEND_STORE_URI": one.address("psycopg", "mlflow"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            **one.of_store,
        },
    )


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


def _started(
    one: Team, name: str, arguments: tuple[str, ...], environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    with (one.folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=one.folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _await(address: str, process: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        assert process.poll() is None, f"{address}: the server has ended"
        try:
            with urllib.request.urlopen(address, timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    wait_until(answers, address)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Waits until something holds."""
    until_s = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > until_s:
            pytest.fail(f"{what}: waited for {_PATIENCE_S:.0f} s")
        time.sleep(0.2)
