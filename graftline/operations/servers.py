"""Servers of one's own: started once, shared by all who need them, stopped by the last user.

A record in the server's folder tells its process, its port and its users. The server of a killed
flow, whose users are all gone, is so found by the next start, which takes it over. A server that
was asked to last has one user more, which is no process.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import psutil
from filelock import FileLock

from graftline.core.database_templates import begin_with_copy
from graftline.core.environment import LOGIN_VARIABLE, prefect_home, quiet_environment
from graftline.core.errors import ServerError, says_full_disk, storage_full
from graftline.core.private import login, login_file
from graftline.core.processes import ProcessIdentity, end_group
from graftline.core.records import Record
from graftline.core.redaction import without_secrets
from graftline.core.startup import module_command
from graftline.core.workspace import Workspace

HOST = "127.0.0.1"
PREFECT_PORT = 4200
MLFLOW_PORT = 5000
START_LIMIT_S = 300.0
"""A crowded machine may need minutes; a server that dies is not waited for."""
_ANSWER_LIMIT_S = 5.0
_POLL_S = 0.1
_WATCH_S = 2.0
_ATTEMPTS = 2
_NEEDED_BYTES = 1 << 20
"""Less than this on the disk, and no database opens."""


class ServerRecord(Record):
    """A running server, as the file ``server.json`` in its folder tells of it."""

    process: ProcessIdentity
    port: int
    users: tuple[ProcessIdentity, ...]
    lasting: bool = False
    """Whether it stays when it has no users: see :func:`keep_up`."""
    login_digest: str = ""
    """The SHA-256 of the login that it asks for; empty if it asks for none."""

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True)
class Server:
    """A kind of server.

    Args:
        title: Its name in messages.
        folder: Where its record, its lock and its log lie.
        arguments: Its command after ``python -m``, with ``{port}`` where the port belongs; it
            looks for garbage less often than that would.
        health_path: What answers 200 once it serves.
        preferred_port: Taken if it is free.
        environment: What is set for it besides this process's environment, with ``{port}`` too.
        unset: What it must not inherit.
        database: Whose empty database it may begin with (see
            :mod:`graftline.core.database_templates`), and where.
        login_variable: The variable in which it finds the login that it asks for.
        login_file: Where that login is kept (see :func:`graftline.core.private.login`); None if
            it asks for none.
    """

    title: str
    folder: Path
    arguments: tuple[str, ...]
    health_path: str
    preferred_port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    database: tuple[str, Path] | None = None
    login_variable: str = ""
    login_file: Path | None = None

    @property
    def record_file(self) -> Path:
        """Where its :class:`ServerRecord` lies while it runs."""
        return self.folder / "server.json"

    @property
    def log_file(self) -> Path:
        """What the server says of itself."""
        return self.folder / "server.log"


def prefect_server(workspace: Workspace, preferred_port: int = PREFECT_PORT) -> Server:
    """The Prefect server whose database lies under ``var/prefect``; port 0 takes any."""
    home = prefect_home(workspace)
    return Server(
        title="Prefect",
        folder=home,
        arguments=("prefect", "server", "start", "--host", HOST, "--port", "{port}"),
        health_path="/api/health",
        preferred_port=preferred_port,
        # The page asks the API at the address of the settings, whatever the command line says.
        environment={
            **quiet_environment(workspace),
            "PREFECT_SERVER_API_PORT": "{port}",
            "PREFECT_SERVER_UI_API_URL": f"http://{HOST}:{{port}}/api",
            # Prefect's own default lets every page that is open in a browser read the answers.
            "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{{port}}",
        },
        # What the user tells other servers is not for this one, or it would answer elsewhere.
        unset=(
            *("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY", "PREFECT_API_URL", "PREFECT_PROFILE"),
            *("PREFECT_SERVER_API_BASE_PATH", "PREFECT_SERVER_UI_SERVE_BASE"),
            *("PREFECT_UI_API_URL", "PREFECT_UI_SERVE_BASE"),
        ),
        database=("prefect", home / "prefect.db") if _keeps_database_in(home) else None,
        login_variable="PREFECT_SERVER_API_AUTH_STRING",
        login_file=login_file(workspace),
    )


def client_environment(server: Server, address: str) -> dict[str, str]:
    """What a client finds a Prefect server of one's own by, and is let in with.

    Args:
        server: From :func:`prefect_server`.
        address: Where it answers, as :func:`join` gives it.

    Raises:
        ServerError: If the login cannot be used.
    """
    known = {"PREFECT_API_URL": f"{address}/api"}
    if server.login_file is not None:
        known["PREFECT_API_AUTH_STRING"] = login(server.login_file)
    return known


def mlflow_server(workspace: Workspace, preferred_port: int = MLFLOW_PORT) -> Server:
    """The MLflow server for the history under ``var/mlflow``; port 0 takes any."""
    from graftline.registry.tracking import configure

    store = configure(workspace)
    return Server(
        title="MLflow",
        folder=store.root,
        # The store's address may hold a password, and everybody can read a command line: the
        # server asks for it where this process did.
        arguments=(
            "graftline.registry.tracking.pages",
            *("--host", HOST, "--port", "{port}", "--root", str(workspace.root.resolve())),
        ),
        health_path="/health",
        preferred_port=preferred_port,
        # Its job runner is for evaluations by language models, and a dozen processes.
        environment={**quiet_environment(workspace), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        # Options of its command line: with them it would answer elsewhere, or otherwise.
        unset=(
            *("MLFLOW_STATIC_PREFIX", "MLFLOW_ARTIFACTS_ONLY", "MLFLOW_ENABLE_WORKSPACES"),
            *("MLFLOW_GUNICORN_OPTS", "MLFLOW_UVICORN_OPTS", "MLFLOW_EXPOSE_PROMETHEUS"),
        ),
        database=None if store.database is None else ("mlflow", store.database),
        login_variable=LOGIN_VARIABLE,
        login_file=login_file(workspace),
    )


@contextmanager
def serving(server: Server) -> Iterator[str]:
    """Has the server running, and gives its address; see :func:`join`."""
    address = join(server)
    try:
        yield address
    finally:
        leave(server)


@contextmanager
def kept_alive(server: Server, address: str, say: Callable[[str], None]) -> Iterator[None]:
    """Starts a server of one's own again at the same address, should it go while it is needed.

    Args:
        server: The one that this process has joined.
        address: Where it answers.
        say: Told if that was necessary.
    """
    over = threading.Event()
    same = replace(server, preferred_port=urlsplit(address).port or 0)

    def watch() -> None:
        while not over.wait(_WATCH_S):
            if alive(server):
                continue
            say(f"the {server.title} server was gone; it is being started again")
            try:
                if (again := join(same)) != address:
                    say(f"it answers at {again} now, since its port was taken")
            except (ServerError, OSError) as error:
                say(str(error))

    watcher = threading.Thread(target=watch, name=f"keep {server.title}", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def join(server: Server, limit_s: float = START_LIMIT_S) -> str:
    """Becomes a user of the server, which is started if it does not run.

    Only one process at a time is in here, so that a new database is set up once.

    Returns:
        The server's address, as in ``http://127.0.0.1:4200``.

    Raises:
        ServerError: If it does not answer within ``limit_s`` seconds, or ends.
        StorageFullError: If it ends since the disk is full.
    """
    with _locked(server):
        record = _living(server, limit_s) or _started(server, limit_s)
        _with_user(record).write(server.record_file)
    return record.address


def join_running(server: Server, limit_s: float = START_LIMIT_S) -> str | None:
    """Becomes a user of the server if it runs; gives its address, or None if it does not."""
    with _locked(server):
        record = _living(server, limit_s)
        if record is not None:
            _with_user(record).write(server.record_file)
    return record.address if record else None


def leave(server: Server) -> None:
    """Stops being a user; the last one stops the server, unless it is to last."""
    me = ProcessIdentity.of()
    with _locked(server):
        record = ServerRecord.find(server.record_file)
        if record is None:
            return
        users = tuple(user for user in record.users if user.alive() and user != me)
        _stay_or_end(server, record.model_copy(update={"users": users}))


def keep_up(server: Server, limit_s: float = START_LIMIT_S) -> str:
    """Has the server running, and lasting until :func:`let_go`, whichever users come and go.

    Returns:
        The server's address.

    Raises:
        ServerError: If it does not answer within ``limit_s`` seconds.
    """
    with _locked(server):
        record = _living(server, limit_s) or _started(server, limit_s)
        record.model_copy(update={"lasting": True}).write(server.record_file)
    return record.address


def let_go(server: Server) -> Literal["stopped", "in use", "absent"]:
    """Lets a lasting server end with its last user: now, if it has none.

    A server that was not asked to last is left to its users.
    """
    if ServerRecord.find(server.record_file) is None:
        return "absent"
    with _locked(server):
        record = ServerRecord.find(server.record_file)
        if record is None or not record.lasting:
            return "absent"
        users = tuple(user for user in record.users if user.alive())
        return _stay_or_end(server, record.model_copy(update={"users": users, "lasting": False}))


def users(server: Server) -> tuple[ProcessIdentity, ...]:
    """The processes that use the server now."""
    record = ServerRecord.find(server.record_file)
    return tuple(user for user in record.users if user.alive()) if record else ()


def alive(server: Server) -> bool:
    """Whether the server's process runs, however busy it is."""
    record = ServerRecord.find(server.record_file)
    return record is not None and record.process.alive()


def address(server: Server) -> str | None:
    """Where the server answers; None if it does not run."""
    record = ServerRecord.find(server.record_file)
    return record.address if record is not None and record.process.alive() else None


def process_of(server: Server) -> ProcessIdentity | None:
    """The server's process; None if it does not run."""
    record = ServerRecord.find(server.record_file)
    return record.process if record is not None and record.process.alive() else None


def answers(host: str, port: int, path: str, limit_s: float = _ANSWER_LIMIT_S) -> bool:
    """Whether a GET is answered with 200; proxies are not asked."""
    connection = http.client.HTTPConnection(host, port, timeout=limit_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _keeps_database_in(home: Path) -> bool:
    # Prefect takes its database's address from any of several variables.
    elsewhere = any("DATABASE" in name for name in os.environ if name.startswith("PREFECT_"))
    return not elsewhere and Path(os.environ.get("PREFECT_HOME", home)) == home


def _with_user(record: ServerRecord) -> ServerRecord:
    me = ProcessIdentity.of()
    others = tuple(user for user in record.users if user.alive() and user != me)
    return record.model_copy(update={"users": (*others, me)})


def _stay_or_end(server: Server, record: ServerRecord) -> Literal["stopped", "in use"]:
    if record.users or record.lasting:
        record.write(server.record_file)
        return "in use"
    end_group(record.process)
    server.record_file.unlink(missing_ok=True)
    return "stopped"


@contextmanager
def _locked(server: Server) -> Iterator[None]:
    server.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(server.folder / "server.lock"):
        yield


def _living(server: Server, limit_s: float) -> ServerRecord | None:
    record = ServerRecord.find(server.record_file)
    if record is None:
        return None
    # It may be starting still, if the one who started it was killed. One that asks for no login, or
    # for one that has been removed, is not to go on.
    if record.login_digest == _login_digest(server) and _ready(server, record, limit_s):
        return record
    end_group(record.process)
    return None


def _started(server: Server, limit_s: float) -> ServerRecord:
    for attempt in range(1, _ATTEMPTS + 1):
        # Somebody else may take the port between the choice and the start.
        record = _start(server, _free_port(server.preferred_port if attempt == 1 else 0))
        if _ready(server, record, limit_s):
            return record
        died = not record.process.alive()
        end_group(record.process)
        server.record_file.unlink(missing_ok=True)
    said = server.log_file.read_text(encoding="utf-8", errors="replace")
    # A full disk may not even take what the server says of it.
    if died and (says_full_disk(said) or shutil.disk_usage(server.folder).free < _NEEDED_BYTES):
        raise storage_full(server.folder)
    raise ServerError(
        f"the {server.title} server ended while it started"
        if died
        else f"the {server.title} server did not start within {limit_s:g} s",
        where=str(server.log_file),
        fix="read the end of that file; it says what the server missed" + _told_of_database(server),
    )


def _told_of_database(server: Server) -> str:
    variable = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
    if server.title != "Prefect" or not (named := os.environ.get(variable)):
        return ""
    return f"; {variable} says where its database is: {without_secrets(named)}"


def _start(server: Server, port: int) -> ServerRecord:
    arguments = [argument.replace("{port}", str(port)) for argument in server.arguments]
    if server.database is not None:
        begin_with_copy(*server.database)
    with server.log_file.open("wb") as log:
        process = subprocess.Popen(
            module_command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(server, port),
            # Ctrl-C in the terminal is for its users; it outlives all but the last of them.
            start_new_session=True,
        )
    identity = ProcessIdentity.of(process.pid)
    # The waiting process may not be its parent, so nobody does: see ProcessIdentity.alive.
    process.returncode = 0
    record = ServerRecord(process=identity, port=port, users=(), login_digest=_login_digest(server))
    record.write(server.record_file)
    return record


def _environment(server: Server, port: int) -> dict[str, str]:
    more = {name: text.replace("{port}", str(port)) for name, text in server.environment.items()}
    if server.login_file is not None:
        more[server.login_variable] = login(server.login_file)
    return {name: text for name, text in {**os.environ, **more}.items() if name not in server.unset}


def _login_digest(server: Server) -> str:
    if server.login_file is None:
        return ""
    return hashlib.sha256(login(server.login_file).encode()).hexdigest()


def _ready(server: Server, record: ServerRecord, limit_s: float) -> bool:
    until = time.monotonic() + limit_s
    while time.monotonic() < until and record.process.alive():
        # Another process may answer on that port, which was faster to take it.
        if answers(HOST, record.port, server.health_path) and _listens(record):
            return True
        time.sleep(_POLL_S)
    return False


def _listens(record: ServerRecord) -> bool:
    try:
        leader = psutil.Process(record.process.pid)
        return any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == record.port
            for process in (leader, *leader.children(recursive=True))
            for connection in process.net_connections("inet")
        )
    except psutil.Error:
        return False


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerError(f"there is no free port on {HOST}")
