"""What is tried again, how often and how soon; and waiting for a server that is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import httpx

from graftline.core.environment import patience_s
from graftline.core.errors import (
    DownloadError,
    PipelineBusyError,
    ServerError,
    StalledError,
    TrackingError,
)

T = TypeVar("T")

CAN_PASS = (DownloadError, PipelineBusyError, ServerError, StalledError, TrackingError)
"""What may go better a minute later; another try of anything else would end as this one."""
DELAYS_S = (2.0, 10.0)
"""Between the tries of what asks a registry or a server."""
_POLL_S = 1.0
_AWAY = (httpx.TransportError, httpx.HTTPStatusError)


def tried_again(after: type[Exception], delays_s: Sequence[float] = DELAYS_S) -> dict[str, Any]:
    """The options of a Prefect task that is tried again after errors of one kind, and no others.

    Args:
        after: The kind of error that can pass by itself.
        delays_s: Seconds before each further try.
    """

    def can_pass(_task: Any, _run: Any, state: Any) -> bool:
        return isinstance(state.result(raise_on_failure=False), after)

    return {
        "retries": len(delays_s),
        "retry_delay_seconds": list(delays_s),
        "retry_condition_fn": can_pass,
    }


def patiently(
    ask: Callable[[], T], say: Callable[[str], None], limit_s: float | None = None
) -> T | None:
    """Asks Prefect's server, again and again while it does not answer.

    Args:
        ask: Does it; called again from the beginning after each failure to reach the server.
        say: Told once that there is any waiting, and once how it ended.
        limit_s: How long to go on, in seconds; None is what the environment says.

    Returns:
        What ``ask`` returned, or None if the server stayed away.
    """
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    limit_s = patience_s() if limit_s is None else limit_s
    until_s = time.monotonic() + limit_s
    said = False
    while True:
        try:
            # Prefect's client would try for minutes itself, without a word.
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                answer = ask()
        except _AWAY as error:
            if _is_refusal(error):
                raise
            if time.monotonic() >= until_s:
                say(f"Prefect's server stayed away for {limit_s:g} s; it is not told everything")
                return None
            if not said:
                say(f"Prefect's server does not answer; waiting for it, up to {limit_s:g} s")
            said = True
            time.sleep(_POLL_S)
        else:
            if said:
                say("Prefect's server answers again")
            return answer


def _is_refusal(error: Exception) -> bool:
    """Whether a server that is there has said no."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500
