"""Names of classes that people take for the same one, though a computer does not."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

# Small letters of Cyrillic and Greek that look like Latin ones, and those.
_TWINS = str.maketrans(
    "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456\u0458\u0455\u04bb\u0501"
    "\u03b1\u03bf\u03c1\u03bd\u03b9",
    "aceopxyijshdaopvi",
)
_QUOTES = str.maketrans("\u2018\u2019\u201b\u02bc\u00b4`\u201c\u201d\u201e\u2033", "''''''\"\"\"\"")
# Letters and marks without ink, besides those that Unicode counts as formats.
_BLANKS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U(000[0-9a-f]{5}))")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:e[+-]?\d{1,3})?")
_LEADING_ZEROS = re.compile(r"(?<![0-9.])0+(?=[0-9])")
_NO_FRACTION = re.compile(r"(?<=[0-9])\.0*(?![0-9.])")


def folded(name: str) -> str:
    """What is left of a name without what the eye passes over; names that share it look alike."""
    return _through([form for _, form in _FORMS], name)


def groups(names: Iterable[str]) -> list[list[str]]:
    """The names that look alike, group by group, each of two or more."""
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        alike.setdefault(folded(name), []).append(name)
    return [group for group in alike.values() if len(group) > 1]


def difference(names: Sequence[str]) -> str:
    """In what names differ that look alike: what has to be passed over for them to be the same."""
    kinds = []
    for kind, _ in _FORMS:
        others = [form for other, form in _FORMS if other != kind]
        if len({_through(others, name) for name in names}) > 1:
            kinds.append(kind)
    if kinds:
        return " and ".join(kinds)
    # More than one of them does alone, as for a space that does not break.
    alone = (kind for kind, form in _FORMS if len({_through([form], one) for one in names}) == 1)
    return next(alone, "how they are written")


def _through(forms: Iterable[Callable[[str], str]], name: str) -> str:
    name = _unescaped(name)
    for form in forms:
        name = form(name)
    return name


def _unescaped(name: str) -> str:
    """As it was before what does not print was shown as its escape."""
    return _ESCAPE.sub(lambda found: chr(int("".join(filter(None, found.groups())), 16)), name)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFKC", name)


def _inked(name: str) -> str:
    return _BLANKS.sub(
        "",
        "".join(
            sign
            for sign in name
            if sign.isspace() or unicodedata.category(sign) not in ("Cf", "Cc")
        ),
    )


def _spaced(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


def _plain(name: str) -> str:
    quoted = name.translate(_QUOTES).translate(_TWINS)
    return "".join("-" if unicodedata.category(sign) == "Pd" else sign for sign in quoted)


def _number(name: str) -> str:
    name = name.replace(",", ".")
    if _NUMBER.fullmatch(name):
        return str(Decimal(name).normalize())
    return _NO_FRACTION.sub("", _LEADING_ZEROS.sub("", name))


_FORMS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("the form of letters in Unicode", _composed),
    ("signs that cannot be seen", _inked),
    ("spaces", _spaced),
    ("small and capital letters", str.casefold),
    ("signs that look the same", _plain),
    ("how a number is written", _number),
)
