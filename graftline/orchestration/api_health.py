"""Whether a Prefect API answers: at the start, and while a flow is at work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from graftline.core.errors import ServerError
from graftline.core.redaction import ESCAPES, ESCAPING, is_misread, without_secrets
from graftline.operations.servers import Server, client_environment

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_WATCH_S = 3.0
_ANSWER_LIMIT_S = 5.0
_START_LIMIT_S = 20.0
"""How long a server may take to answer a small question before anything has begun."""
_AWAY = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)


def check_answers(address: str) -> None:
    """Makes sure that the API of Prefect's settings answers.

    Args:
        address: The same, for the message.

    Raises:
        ServerError: If it does not, or does not let this client in.
    """
    if is_misread(address):
        raise ServerError(
            "the address of the Prefect API cannot be read as it is meant",
            where=f"PREFECT_API_URL: {without_secrets(address)}",
            allowed=ESCAPES,
            fix=ESCAPING,
        )
    from prefect.client.orchestration import get_client
    from prefect.settings import (
        PREFECT_API_REQUEST_TIMEOUT,
        PREFECT_CLIENT_MAX_RETRIES,
        temporary_settings,
    )

    # Prefect itself would try for minutes, and then speak of an ephemeral server.
    once = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: _START_LIMIT_S}
    with temporary_settings(once), get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
        found = getattr(getattr(problem, "response", None), "status_code", None)
        # Its health is everybody's to know.
        refusal = None if problem else _status(client, "/admin/version")
        ready = None if problem or refusal else _status(client, "/ready")
    if HTTPStatus.NOT_FOUND in (found, refusal):
        raise ServerError(
            "a server answers, and it is no Prefect API",
            where=f"PREFECT_API_URL: {without_secrets(address)}",
            allowed="the address of the API, as in http://HOST:4200/api",
            fix="see whether it lacks /api at its end, or whether something else stands before it",
        )
    if {found, refusal} & {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise ServerError(
            "the Prefect API that was chosen does not let this client in",
            where=without_secrets(address),
            allowed="the login that it asks for, in PREFECT_API_AUTH_STRING, or PREFECT_API_KEY",
            fix="set it; for a server that Graftline has started, in its checkout: "
            'export PREFECT_API_AUTH_STRING="$(cat var/login)"',
        )
    if ready in _AWAY:
        raise ServerError(
            "the Prefect server that was chosen is there, and its database does not answer "
            f"(status {ready} at /ready)",
            where=f"PREFECT_API_URL: {without_secrets(address)}",
            fix="that server's log tells more; start the database that "
            "PREFECT_SERVER_DATABASE_CONNECTION_URL names there, and run again: no finished step "
            "is repeated",
        )
    if problem is not None:
        raise ServerError(
            "the Prefect API that was chosen does not answer: "
            + without_secrets(f"{type(problem).__name__}: {problem}"),
            where=f"PREFECT_API_URL: {without_secrets(address)}",
            fix="start that server, or unset PREFECT_API_URL (in the environment and in the "
            "profile) to have one started here",
        )


@contextmanager
def asked_of(server: Server, address: str) -> Iterator[None]:
    """Has Prefect's clients in this process ask a server of one's own, with its login.

    Args:
        server: Which.
        address: Where it answers.

    Raises:
        ServerError: If the login cannot be used.
    """
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    known = client_environment(server, address)
    # A login that the user has set is that of another server, and is not told to this one.
    with temporary_settings(
        {
            PREFECT_API_URL: known["PREFECT_API_URL"],
            PREFECT_API_AUTH_STRING: known.get("PREFECT_API_AUTH_STRING"),
        }
    ):
        yield


@contextmanager
def absence_told(
    address: str, say: Callable[[str], None], every_s: float = _WATCH_S
) -> Iterator[None]:
    """Tells the user at the terminal that a server is away, and that it is back.

    Prefect's client waits for it without a word, so that a flow would seem to stand still.

    Args:
        address: Of the API, as in ``http://127.0.0.1:4200/api``.
        say: Told.
        every_s: How often the server is asked, in seconds.
    """
    over = threading.Event()

    def watch() -> None:
        # Where certificates or a proxy keep this plain question from it, nothing can be told.
        if not _answers(address):
            return
        here = True
        while not over.wait(every_s):
            if _answers(address) == here:
                continue
            here = not here
            say(
                "Prefect's server is back"
                if here
                else "Prefect's server is away; work goes on where it can, and waits for it where "
                "it must"
            )

    watcher = threading.Thread(target=watch, name="ask for Prefect's server", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()


def _status(client: SyncPrefectClient, path: str) -> int | None:
    """With what an API refuses to answer; None if it does not. One that hangs has timed out."""
    import httpx

    try:
        answer = client.request("GET", path)  # type: ignore[arg-type]
    except httpx.TimeoutException:
        return HTTPStatus.GATEWAY_TIMEOUT
    except httpx.HTTPStatusError as error:
        # Prefect Cloud tells no version.
        status = error.response.status_code
        return None if status == HTTPStatus.NOT_FOUND else status
    # A page, such as one that asks for a login, answers whatever is asked.
    return None if "json" in answer.headers.get("content-type", "") else HTTPStatus.NOT_FOUND


def _answers(address: str) -> bool:
    """Whether anything is said, be it a refusal, but that its database is away."""
    import httpx

    try:
        answer = httpx.get(f"{address}/ready", timeout=_ANSWER_LIMIT_S)
    except httpx.TimeoutException:
        # A busy server is not away.
        return True
    except httpx.HTTPError:
        return False
    return answer.status_code not in _AWAY
