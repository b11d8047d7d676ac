"""Waiting for a Prefect server that is away for a moment, instead of failing with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import httpx

T = TypeVar("T")

PATIENCE_S = 180.0
_POLL_S = 1.0
_AWAY = (httpx.TransportError, httpx.HTTPStatusError)


def patiently(
    ask: Callable[[], T], say: Callable[[str], None], limit_s: float = PATIENCE_S
) -> T | None:
    """Asks Prefect's server, again and again while it does not answer.

    Args:
        ask: Does it; called again from the beginning after each failure to reach the server.
        say: Told once that there is any waiting, and once how it ended.
        limit_s: How long to go on, in seconds.

    Returns:
        What ``ask`` returned, or None if the server stayed away.
    """
    until_s = time.monotonic() + limit_s
    said = False
    while True:
        try:
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
