"""Where the history lies, and what is asked before it is used for the first time."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from filelock import FileLock

from graftline.core.database_templates import begin_with_copy
from graftline.core.environment import MLFLOW_SWITCHES
from graftline.core.errors import StorageFullError, TrackingError, from_system, storage_full
from graftline.core.installing import install_command
from graftline.core.redaction import ESCAPES, ESCAPING, is_misread, without_secrets
from graftline.core.workspace import Workspace
from graftline.registry.tracking.runs_view import ensure_view, view_tags

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DEFAULT_EXPERIMENT = "graftline"
_DATABASE = "mlflow.db"
_PROBE_TIMEOUT_S = 5.0
_ANSWER_S = 20.0
"""How long a server that is there may take to answer a small question."""
_PROBE_EVERY_S = 1.0
_log = logging.getLogger(__name__)
_WEB = ("http", "https")
_DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
_FIX = (
    "start the server that MLFLOW_TRACKING_URI names, or mend that address and the password in it, "
    "or unset it to keep the history in var/mlflow"
)
_DATABASE_BEHIND = "database (MLFLOW_BACKEND_STORE_URI there)"
_FILES_BEHIND = "object store (--artifacts-destination there)"
_PASSED_ON = "mlflow-artifacts:"
"""How the place of a run's files begins if the server passes them on."""


class _BehindError(OSError):
    """A server is there, and what it keeps its records or files in is not.

    Args:
        told: How it is known.
        behind: What is away, and which of the server's own settings names it.
    """

    def __init__(self, told: str, behind: str) -> None:
        super().__init__(f"its server is there, and {told}; its {behind} may be away")
        self.fix = f"that server's log tells more; have its {behind} answer, and run again"


@dataclass(frozen=True)
class Store:
    """A tracking store and the experiment in it.

    Args:
        uri: MLflow's address of the store.
        experiment: The experiment's name.
        root: The folder of the default store, or where locks lie for another one.
        artifacts: Where files go; None leaves it to the store.
    """

    uri: str
    experiment: str
    root: Path
    artifacts: Path | None

    @property
    def database(self) -> Path | None:
        """The file of the default store; None for another one."""
        return None if self.artifacts is None else self.root / _DATABASE

    @property
    def shown(self) -> str:
        """The address without the name, password or key that it may hold."""
        return without_secrets(self.uri)

    @property
    def executions(self) -> Path:
        """One small file per execution that has not been closed."""
        return self.root / "executions"

    @property
    def last_run(self) -> Path:
        """The receipt of the last run that this checkout opened."""
        return self.root / "last_run.json"


def configure(workspace: Workspace) -> Store:
    """Names the store: the user's MLFLOW_TRACKING_URI, or SQLite below ``var/mlflow``.

    Nothing is opened yet. MLflow's telemetry and its unpickling are switched off for this process
    and those that it starts.

    Raises:
        TrackingError: If an address in the environment would be read otherwise than it is meant.
    """
    os.environ.update(MLFLOW_SWITCHES)
    root = _checkout(workspace) / "var" / "mlflow"
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        _check_address(variable)
    if uri:
        return Store(uri, experiment, root, None)
    return Store(f"sqlite:///{root / _DATABASE}", experiment, root, root / "artifacts")


def store_exists(workspace: Workspace) -> bool:
    """Whether there may be a history: opening the default one would make it, and takes seconds."""
    database = configure(workspace).database
    return database is None or database.is_file()


def open_client(
    store: Store, patience_s: float = 0.0, *, files: bool = False
) -> tuple[MlflowClient, str]:
    """The client of a store, and its experiment's id; both are made at first use.

    Args:
        store: Which.
        patience_s: How long to wait for a server that does not answer, in seconds: in the middle
            of a run it may just be restarting.
        files: Whether files will be written or read too: then what keeps them has to be there.

    Raises:
        TrackingError: If the store cannot be reached or used.
    """
    with reported(store):
        _await(store, patience_s, lambda: _probe(store))
        opened = _opened(store)
        if files:
            _await(store, patience_s, lambda: _probe_files(store, *opened))
        return opened


def probe(store: Store) -> None:
    """Sees to it that a store's server is reached at all; MLflow tries for minutes before it says.

    Raises:
        TrackingError: If it is not.
    """
    with reported(store):
        _probe(store)


@contextmanager
def reported(store: Store) -> Iterator[None]:
    """Turns whatever MLflow, its database or the network raise into a :class:`TrackingError`."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ImportError as error:
        raise TrackingError(
            f"the tracking store cannot be used: its driver is absent: {_first_line(error)}",
            where=store.shown,
            fix=f"install it here: {install_command(error.name or 'DRIVER')}",
        ) from error
    except (MlflowException, SQLAlchemyError, OSError) as error:
        if isinstance(from_system(error, store.root), StorageFullError):
            raise storage_full(store.root) from error
        raise TrackingError(
            f"the tracking store cannot be used: {_first_line(error)}",
            where=store.shown if store.database else f"MLFLOW_TRACKING_URI: {store.shown}",
            fix=getattr(error, "fix", _FIX),
        ) from error


@lru_cache(maxsize=8)
def _opened(store: Store) -> tuple[MlflowClient, str]:
    from mlflow.tracking import MlflowClient

    # MLflow tells of every migration of a new database, which says nothing to a user.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # In an environment that uv has made it misses pip, though what a model needs is listed for it.
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
    # What it logs there, with a traceback, it raises too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    store.root.mkdir(parents=True, exist_ok=True)
    # Two first uses at once would both create the tables, and one of them would fail.
    with FileLock(store.root / "store.lock"):
        if store.database is not None:
            begin_with_copy("mlflow", store.database)
        registry_uri = os.environ.get("MLFLOW_REGISTRY_URI") or store.uri
        client = MlflowClient(store.uri, registry_uri)
        return client, _experiment_id(client, store)


def _experiment_id(client: MlflowClient, store: Store) -> str:
    experiment = client.get_experiment_by_name(store.experiment)
    if experiment is None:
        place = None if store.artifacts is None else store.artifacts.as_uri()
        return str(client.create_experiment(store.experiment, place, tags=view_tags()))
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"the experiment {store.experiment!r} was deleted",
            where=store.shown,
            fix=f"mlflow experiments restore --experiment-id {experiment.experiment_id}, or name "
            "another one in MLFLOW_EXPERIMENT_NAME",
        )
    ensure_view(client, experiment)
    return str(experiment.experiment_id)


def _await(store: Store, patience_s: float, ask: Callable[[], None]) -> None:
    until_s = time.monotonic() + patience_s
    said = False
    while True:
        try:
            ask()
        except OSError:
            if time.monotonic() >= until_s:
                raise
            if not said:
                _log.warning(
                    "the tracking store at %s does not answer; waiting for it, up to %g s",
                    store.shown,
                    patience_s,
                )
            said = True
            time.sleep(_PROBE_EVERY_S)
        else:
            if said:
                _log.warning("the tracking store at %s answers again", store.shown)
            return


def _check_address(variable: str) -> None:
    uri = os.environ.get(variable, "")
    if is_misread(uri):
        raise TrackingError(
            "the address of the tracking store cannot be read as it is meant",
            where=f"{variable}: {without_secrets(uri)}",
            allowed=ESCAPES,
            fix=ESCAPING,
        )


def _probe(store: Store) -> None:
    kind = store.uri.partition("://")[0].partition("+")[0].lower()
    if kind not in _DEFAULT_PORTS:
        return
    web = kind in _WEB
    host, port = _place(store.uri, web=web)
    if host is None:
        return
    if not web or kind not in getproxies() or proxy_bypass(host):
        _connect(host, port or _DEFAULT_PORTS[kind])
    if web:
        # It may be there without its database.
        _ask(store, _DATABASE_BEHIND, "/api/2.0/mlflow/experiments/search", max_results="1")


def _place(address: str, *, web: bool) -> tuple[str | None, int | None]:
    if web:
        parts = urlsplit(address)
        return parts.hostname, parts.port
    from sqlalchemy.engine import make_url

    url = make_url(address)
    return url.host, url.port


def _probe_files(store: Store, client: MlflowClient, experiment_id: str) -> None:
    place = client.get_experiment(experiment_id).artifact_location
    if place.startswith(_PASSED_ON):
        # For the files of a folder that nobody has: what the server keeps them in is asked.
        path = "/api/2.0/mlflow-artifacts/artifacts"
        _ask(store, _FILES_BEHIND, path, path="graftline-asks")


def _connect(host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=_PROBE_TIMEOUT_S).close()
    except OSError as error:
        raise OSError(f"nothing answers at {host}:{port}: {error.strerror or error}") from error


def _ask(store: Store, behind: str, endpoint: str, **parameters: str) -> None:
    """Asks once; MLflow itself would ask for minutes, without a word."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        answer = http_request(  # type: ignore[no-untyped-call]
            get_default_host_creds(store.uri),  # type: ignore[no-untyped-call]
            endpoint,
            "GET",
            max_retries=0,
            # What it answers is looked at here.
            retry_codes=frozenset(),
            timeout=_ANSWER_S,
            params=parameters,
        )
    except MlflowException as error:
        if "timed out" not in str(error):
            raise OSError(str(error)) from error
        raise _BehindError(f"has not answered a question for {_ANSWER_S:g} s", behind) from error
    if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise TrackingError(
            "the tracking store does not let this client in: its server, or a proxy before it, "
            f"answers {answer.status_code}",
            where=f"MLFLOW_TRACKING_URI: {store.shown}",
            fix="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN, to the login that it asks for",
        )
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _BehindError(f"answers {answer.status_code} {answer.reason}", behind)
    # A page, such as one that asks for a login, answers whatever is asked.
    is_page = "json" not in answer.headers.get("content-type", "")
    if behind == _DATABASE_BEHIND and (is_page or answer.status_code == HTTPStatus.NOT_FOUND):
        raise TrackingError(
            "the tracking store cannot be used: a server answers, and it is none of MLflow's",
            where=f"MLFLOW_TRACKING_URI: {store.shown}",
            allowed="the address of MLflow's server, as in http://HOST:5000",
            fix="see what answers there: curl --include ADDRESS/api/2.0/mlflow/experiments/search",
        )


def _checkout(workspace: Workspace) -> Path:
    # dvc exp run --temp and --queue work in a copy that is removed afterwards; the history stays
    # with the checkout that it was copied from.
    root = workspace.root.resolve()
    origin = os.environ.get("DVC_ROOT")
    if origin and root.is_relative_to(Path(origin).resolve() / ".dvc" / "tmp" / "exps"):
        return Path(origin).resolve()
    return root


def _first_line(error: BaseException) -> str:
    # MLflow and SQLAlchemy quote the address that they were given.
    text = without_secrets(str(error).strip())
    return text.splitlines()[0] if text else type(error).__name__
