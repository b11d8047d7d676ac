"""What another user of the machine, or a page open in a browser on it, can say to a port."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_LIMIT_S = 60.0
_PATIENCE_S, _PAUSE_S = 120.0, 1.0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(
    address: str, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """One request with the headers as they are given, and no others but those of the length.

    Args:
        address: As in ``http://127.0.0.1:4200``.
        method: The verb.
        path: Behind the address.
        body: Sent as JSON; None sends none. Bytes are sent as they are.
        headers: A Host among them takes the place of the right one.
    """
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_LIMIT_S)
    given = {"Host": parts.netloc, **(headers or {})}
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in given.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data)
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, answer.read())
    finally:
        connection.close()


def ask_again(
    address: str, method: str, path: str, body: Any, headers: Mapping[str, str]
) -> Answer:
    """The same request until the server has time for it, as Prefect's own client asks.

    Prefect answers 503 where its database is locked for a moment.
    """
    until = time.monotonic() + _PATIENCE_S
    answer = ask(address, method, path, body, headers)
    while answer.status == 503 and time.monotonic() < until:
        time.sleep(_PAUSE_S)
        answer = ask(address, method, path, body, headers)
    return answer
