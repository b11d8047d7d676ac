"""Whether a Prefect API answers: at the start, and while a flow is at work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from graftline.core.errors import ServerError
from graftline.core.redaction import ESCAPES, ESCAPING, is_misread, without_secrets
from graftline.operations.servers import Server, client_environment

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_WATCH_S = 3.0
_ANSWER_LIMIT_S = 5.0


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
    # Prefect itself would try for long, and then speak of an ephemeral server.
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
        refused = problem is None and _refuses(client)
    if refused:
        raise ServerError(
            "the Prefect API that was chosen does not let this client in",
            where=without_secrets(address),
            allowed="the login that it asks for, in PREFECT_API_AUTH_STRING, or PREFECT_API_KEY",
            fix="set it; for a server that Graftline has started, in its checkout: "
            'export PREFECT_API_AUTH_STRING="$(cat var/login)"',
        )
    if problem is not None:
        raise ServerError(
            "the Prefect API that was chosen does not answer: "
            + without_secrets(f"{type(problem).__name__}: {problem}"),
            where=without_secrets(address),
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


def _refuses(client: SyncPrefectClient) -> bool:
    # Its health is everybody's to know.
    import httpx

    try:
        client.api_version()
    except httpx.HTTPStatusError as error:
        return error.response.status_code in (401, 403)
    return False


def _answers(address: str) -> bool:
    """Whether anything is said, be it a refusal."""
    import httpx

    try:
        httpx.get(f"{address}/health", timeout=_ANSWER_LIMIT_S)
    except httpx.TimeoutException:
        # A busy server is not away.
        return True
    except httpx.HTTPError:
        return False
    return True
