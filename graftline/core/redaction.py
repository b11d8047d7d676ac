"""Addresses without what must not be shown: names and passwords, and the values of a query."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

HIDDEN = "***"
# A user who writes a password with signs that mean something in an address (/ # ? @) means it
# to go as far as the last @, wherever a reader of addresses would cut it.
# Files have neither.
_USER = re.compile(r"(?<=://)(?<!file://)(?<!sqlite://)(?:[^\s@:]*:\S*@|[^\s/?#]+@)")
_SECRET = re.compile(
    r"(?i)([?&;](?:[\w.-]*(?:key|token|secret|passw|pwd|sig|credential|auth)[\w.-]*"
    r"|odbc_connect)=)[^&\s]+"
)
_DATABASES = ("mssql", "mysql", "postgresql")
"""Whose addresses SQLAlchemy reads; that of SQLite names no user."""
ESCAPES = (
    "an address whose name and password have %2F for /, %40 for @, %23 for #, %3A for :, %3F for ? "
    "and %25 for %"
)
"""What may stand before the host."""
ESCAPING = (
    'write the password so; this asks for it and prints it: python -c "from getpass import '
    "getpass as ask; from urllib.parse import quote; print(quote(ask(), safe=''))\""
)
"""How one comes by it."""
_ADDRESS = re.compile(r"[\w+.-]+://", re.ASCII)


def without_secrets(text: str) -> str:
    """A text, an address or one that quotes addresses, fit for logs, tags and messages.

    Names and passwords before a host, and the values of query parameters whose names speak of keys,
    tokens, secrets, passwords, signatures or credentials, become ``***``. Where the end of a
    password cannot be told, more is hidden rather than less. Of an address in the environment the
    name and password are hidden whatever signs they hold, blanks too.
    """
    for secret in _named_in_environment():
        text = text.replace(secret, f"{HIDDEN}@")
    return _SECRET.sub(rf"\1{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))


def names_a_user(address: str) -> bool:
    """Whether something stands in an address that is, or is meant for, a name or a password."""
    return _USER.search(address) is not None


def is_misread(address: str) -> bool:
    """Whether who accepts an address would end its name and password elsewhere than it is meant.

    Addresses of web servers and of databases are looked at; any other is none that is misread.
    """
    scheme = address.partition("://")[0].lower()
    try:
        if scheme in ("http", "https"):
            parts = urlsplit(address)
            # Asking for the port reads it.
            host, user, _ = parts.hostname, parts.username, parts.port
        elif scheme.partition("+")[0] in _DATABASES:
            host, user = _read_by_sqlalchemy(address)
        else:
            return False
    except ValueError:
        return True
    return not host or "@" in host or (user is not None) != names_a_user(address)


def _read_by_sqlalchemy(address: str) -> tuple[str | None, str | None]:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address)
    except ArgumentError as error:
        raise ValueError(str(error)) from error
    return url.host, url.username


def _named_in_environment() -> list[str]:
    """What stands between scheme and host of the addresses in the environment, with its ``@``."""
    found = []
    for value in os.environ.values():
        if "://" not in value or "@" not in value or not (start := _ADDRESS.match(value)):
            continue
        name_and_password, _, _ = value[start.end() :].rpartition("@")
        if ":" in name_and_password:
            found.append(f"{name_and_password}@")
    return sorted(found, key=len, reverse=True)
