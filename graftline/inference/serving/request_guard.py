"""Around every request: who may ask, what every answer carries, and no traceback to anybody."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from graftline.core.loopback import is_loopback
from graftline.inference.serving.limits import RefusedRequestError, error_body
from graftline.inference.serving.metrics import Counters

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OTHER = "other"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_log = logging.getLogger(__name__)


class Guard:
    """Wraps an application.

    A page of somebody else that is open in a browser on this machine could send requests here, and
    by a name of its own that leads to 127.0.0.1 even read the answers; so both the host that was
    asked for and the page that asks must be this machine.

    Args:
        app: The application.
        counters: What counts requests and their seconds.
        paths: Those that are told apart in the counts.
    """

    def __init__(self, app: App, counters: Counters, paths: frozenset[str]) -> None:
        self._app, self._counters, self._paths = app, counters, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the application answer, if the sender may ask."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.monotonic()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            if (refusal := _refusal(Headers(scope=scope))) is not None:
                await error_response(refusal)(scope, receive, sending)
            else:
                await self._app(scope, receive, sending)
        except Exception as error:
            _log.error(
                "%s %s failed: %s: %s",
                scope["method"],
                _printable(scope["path"]),
                type(error).__name__,
                error,
                exc_info=_log.isEnabledFor(logging.DEBUG),
            )
            if not status:
                await fault_response()(scope, receive, sending)
        finally:
            path = scope["path"] if scope["path"] in self._paths else _OTHER
            self._counters.answered(path, status, time.monotonic() - started_s)


def error_response(error: RefusedRequestError) -> Response:
    """The answer that tells of an error."""
    return json_response(error.body, error.status, error.headers)


def fault_response() -> Response:
    """The answer that tells of a fault of ours, and nothing of its inside."""
    return json_response(
        error_body(
            "this is a fault in Graftline, or in something below it",
            fix="the server's own messages say more; start it with --debug for the traceback",
        ),
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )


def json_response(
    record: Any, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    """JSON as ``graftline predict --json`` writes it: the same numbers, digit for digit."""
    return Response(
        # Names may hold what has no place in UTF-8, so everything but ASCII is escaped.
        json.dumps(record) + "\n",
        status_code=int(status),
        headers=headers,
        media_type="application/json",
    )


def _refusal(headers: Headers) -> RefusedRequestError | None:
    if "content-length" in headers and "transfer-encoding" in headers:
        # A proxy in front may take the one, and this server the other (RFC 9112, 6.1).
        return RefusedRequestError(
            HTTPStatus.BAD_REQUEST,
            "the request tells the length of its body in two ways",
            where="headers Content-Length and Transfer-Encoding",
            allowed="one of the two",
            fix="send Content-Length alone, as curl does with --data-binary",
            close=True,
        )
    host = headers.get("host", "")
    if not is_loopback(_without_port(host)):
        return _not_here("Host", host)
    origin = headers.get("origin")
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        return _not_here("Origin", origin)
    return None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


def _not_here(header: str, value: str) -> RefusedRequestError:
    return RefusedRequestError(
        HTTPStatus.FORBIDDEN,
        f"requests are not taken from {_printable(value)!r}",
        where=f"header {header}",
        allowed="127.0.0.1, localhost or [::1], and pages that come from there",
        fix="ask http://127.0.0.1 with this server's port; a proxy in front must set Host so",
    )


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()[:200]
