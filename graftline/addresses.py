"""Addresses without what must not be shown: names and passwords, and the values of a query."""

from __future__ import annotations

import re

HIDDEN = "***"
_USER = re.compile(r"(?<=://)[^/?#\s@]+@")
_SECRET = re.compile(
    r"(?i)([?&;](?:[\w.-]*(?:key|token|secret|passw|sig|credential|auth)[\w.-]*)=)[^&#\s]+"
)


def without_secrets(text: str) -> str:
    """A text, an address or one that quotes addresses, fit for logs, tags and messages.

    Names and passwords before a host, and the values of query parameters whose names speak of keys,
    tokens, secrets, passwords, signatures or credentials, become ``***``.
    """
    return _SECRET.sub(rf"\1{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))
