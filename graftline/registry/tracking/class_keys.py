"""Class names as parts of metrics' and files' names: one to one, whatever a class is called.

A store refuses many names: those with other signs than letters, digits and a few more, those longer
than 250 characters, and those that a file system would take for another place (``..``, ``a//b``).
What it does not take is written by its code point, as spreadsheets do: ``<30`` is ``_x003C_30``.
Names that need nothing of this, which most are, stay as they are.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

MAX_KEY_BYTES = 200
"""Below the 250 characters of a metric and the 255 bytes of a file, with room for what is around
it."""
_DIGEST_DIGITS = 16
_PLAIN = frozenset("_-. ")
_RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])(\.|$)", re.IGNORECASE)
"""What Windows takes for devices, whatever follows the point."""
_LIKE_A_CODE = re.compile(r"_[xX][0-9A-Fa-f]{4}")


def class_keys(names: Iterable[str]) -> dict[str, str]:
    """What each class is called in the name of a metric or a file.

    The keys differ from each other even where a store takes no notice of case and accents: names
    that differ only so get a digest each. Each is at most 200 bytes long in UTF-8.

    Args:
        names: The classes; each of them once or more.
    """
    keys = {name: _key(name) for name in names}
    alike = Counter(_folded(key) for key in keys.values())
    return {name: _digested(name) if alike[_folded(key)] > 1 else key for name, key in keys.items()}


def _key(name: str) -> str:
    escaped = _escaped(name)
    if not escaped or len(escaped.encode()) > MAX_KEY_BYTES:
        return _digested(name)
    return escaped


def _escaped(name: str) -> str:
    # Two spellings of the same letters would be one name where a file system normalises them.
    ascii_only = unicodedata.normalize("NFC", name) != name
    plain = [
        sign in _PLAIN or (sign.isalnum() and (sign.isascii() or not ascii_only)) for sign in name
    ]
    for match in _LIKE_A_CODE.finditer(name):
        plain[match.start()] = False
    if _RESERVED.match(name) or name.startswith((" ", "..")):
        plain[0] = False
    if name.endswith((" ", ".")):
        plain[-1] = False
    return "".join(
        sign if fits else f"_x{ord(sign):04X}_" for sign, fits in zip(name, plain, strict=True)
    )


def _digested(name: str) -> str:
    """As much of a name as there is room for, and a digest of the whole."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
    mark = f"_x{digest}_"
    head = _escaped(name).encode()[: MAX_KEY_BYTES - len(mark)]
    return head.decode(errors="ignore") + mark


def _folded(key: str) -> str:
    """What is left of a key where case and accents do not count."""
    parts = unicodedata.normalize("NFKD", key)
    return "".join(sign for sign in parts if not unicodedata.combining(sign)).casefold()
