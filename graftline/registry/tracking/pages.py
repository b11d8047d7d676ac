"""MLflow's pages on this machine, for users who have the login.

``graftline.operations.servers`` starts them:

    python -m graftline.registry.tracking.pages --host 127.0.0.1 --port PORT --root CHECKOUT

MLflow's own server answers everybody who can reach it: it moves aliases, and writes files by its
artifact proxy. Its own accounts would need more packages, a database and a hash of the password at
every request. Here a guard stands before the same application, and nothing is proxied: the pages
read artifacts where they lie.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hmac
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from graftline.core.environment import LOGIN_VARIABLE
from graftline.core.exit_codes import reported
from graftline.core.startup import collect_rarely
from graftline.core.workspace import Workspace
from graftline.registry.tracking.store import configure

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH = "/health"
"""Answered without a login, by one word."""
_REALM = b'Basic realm="Graftline: any name, and the text of var/login", charset="UTF-8"'


class LoginGuard:
    """Lets nobody through who does not have the login, by HTTP's Basic authentication.

    Browsers ask for it by themselves, keep it for this address alone, and tell it to no other port.
    A page of another origin, whose requests a browser would send it with, is refused; so is another
    host's name, by which such a page could read the answers.

    Args:
        app: The application.
        login: ``name:password``. The whole of it is taken as a password too, with any name, so that
            one text opens all pages.
        port: Where it answers.
    """

    def __init__(self, app: App, login: str, port: int) -> None:
        self._app = app
        _, _, password = login.partition(":")
        self._logins = (login.encode(), password.encode())
        self._hosts = (f"127.0.0.1:{port}", f"localhost:{port}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what may be asked."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            # There is no WebSocket here.
            await send({"type": "websocket.close", "code": 1008})
        elif (status := self._refusal(scope)) is None:
            await self._app(scope, receive, send)
        else:
            await _refuse(status, send)

    def _refusal(self, scope: Scope) -> HTTPStatus | None:
        headers = _headers(scope)
        host = headers.get("host", "")
        if host not in self._hosts or headers.get("origin", f"http://{host}") != f"http://{host}":
            return HTTPStatus.FORBIDDEN
        if scope["path"] == HEALTH and scope["method"] == "GET":
            return None
        return None if self._knows(headers.get("authorization", "")) else HTTPStatus.UNAUTHORIZED

    def _knows(self, header: str) -> bool:
        scheme, _, credentials = header.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(credentials.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        _, _, password = given.partition(b":")
        # All are compared, so that the time tells nothing.
        whole, alone = self._logins
        return (
            hmac.compare_digest(given, whole)
            | hmac.compare_digest(password, whole)
            | hmac.compare_digest(password, alone)
        )


def _headers(scope: Scope) -> dict[str, str]:
    """By name; of a header that comes twice both, which then are no right one."""
    found: dict[str, str] = {}
    for raw_name, raw in scope["headers"]:
        name, text = raw_name.decode("latin-1").lower(), raw.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


async def _refuse(status: HTTPStatus, send: Send) -> None:
    body = f"{status.phrase}\n".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", _REALM))
    # The body of the request is not read: the connection ends.
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})


def application(workspace: Workspace) -> App:
    """MLflow's own application on the store of a checkout, with nothing before it.

    What MLflow hands to its server by ``mlflow server`` is set here, in this process alone.

    Raises:
        MlflowException: If the store cannot be used.
    """
    store = configure(workspace)
    # Imported below: MLflow reads these when it is.
    from mlflow.server import constants

    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = store.uri
    os.environ[constants.REGISTRY_STORE_URI_ENV_VAR] = store.uri
    root = workspace.root / "mlruns" if store.artifacts is None else store.artifacts
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = root.as_uri()
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(store.uri, store.uri, root.as_uri())
    wrapped: App = app
    return wrapped


def main(arguments: Sequence[str]) -> int:
    """Serves until it is stopped.

    Returns:
        The exit code: 0 once stopped; 1 if it could not serve.
    """
    parser = argparse.ArgumentParser(prog="python -m graftline.registry.tracking.pages")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--root", type=Path, required=True)
    options = parser.parse_args(arguments)
    # Nothing that this process may start is to find it.
    if not (login := os.environ.pop(LOGIN_VARIABLE, "")):
        parser.error(f"{LOGIN_VARIABLE} is not set: graftline ui starts the pages, and sets it")

    def run() -> int:
        import uvicorn

        # MLflow's own guards stand behind this one.
        own = f"{options.host}:{options.port}"
        os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = f"{own},localhost:{options.port}"
        os.environ["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = f"http://{own}"
        app = LoginGuard(application(Workspace(options.root)), login, options.port)
        uvicorn.run(
            app, host=options.host, port=options.port, log_level="warning", server_header=False
        )
        return 0

    return reported(run, debug=True)


if __name__ == "__main__":
    collect_rarely()
    sys.exit(main(sys.argv[1:]))
