"""The errors of parameters that are not valid: key, value, and the allowed values."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from graftline.core.errors import ParamsError
from graftline.core.params.fields import shown
from graftline.core.params.freeze import BUDGET_FORMS, STRATEGY_FORMS
from graftline.core.params.sections import Params, section_names
from graftline.core.redaction import without_secrets

_FORMS: dict[tuple[int | str, ...], str] = {
    ("freeze", "strategy"): STRATEGY_FORMS,
    ("freeze", "budget"): BUDGET_FORMS,
}
_ALLOWED = {
    "model_type": "a section: keys and values, indented below it",
    "tuple_type": "a list, as in [256] or []",
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
}


def explained(error: ValidationError, where: str) -> ParamsError:
    """Every key at fault in one error; ``where`` names the file."""
    # By key: pydantic tells of one wrong strategy once for each form that it might have been.
    got: dict[str, str] = {}
    allowed: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        key, got_here, allowed_here = _told(problem)
        got.setdefault(key, f"{key}: {got_here}" if key else got_here)
        if allowed_here:
            allowed.setdefault(key, f"{key}: {allowed_here}")
    return ParamsError(
        "\n  ".join(["the parameters are not valid:", *map(without_secrets, got.values())]),
        where=without_secrets(where),
        allowed="\n".join(allowed.values()) or None,
        fix="mend the key; docs/parameters.md and params.schema.json list what each one allows",
    )


def _told(problem: ErrorDetails) -> tuple[str, str, str | None]:
    """The key at fault, what arrived there, and what is allowed."""
    location, value = problem["loc"], problem["input"]
    key = ".".join(str(part) for part in location)
    if (forms := _FORMS.get(location[:2])) is not None:
        return ".".join(map(str, location[:2])), f"got {shown(value)}", forms
    if problem["type"] == "extra_forbidden":
        return (
            key,
            f"unknown key, with the value {shown(value)}",
            f"one of {', '.join(_siblings(location))}",
        )
    if problem["type"] == "missing":
        return key, "this key is missing", "see docs/parameters.md"
    if problem["type"] == "value_error":
        return key, problem["msg"].removeprefix("Value error, "), None
    return key, f"got {shown(value)}", _ALLOWED.get(problem["type"]) or _requirement(problem)


def _requirement(problem: ErrorDetails) -> str:
    message = re.sub("^Input should (be )?", "", problem["msg"])
    return re.sub("^String should match", "text that matches the", message)


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    section: Any = Params
    for key in location[:-1]:
        fields = getattr(section, "model_fields", {})
        named = {field.alias or name: field.annotation for name, field in fields.items()}
        section = named.get(key)
    if section is Params:
        return section_names()
    return list(getattr(section, "model_fields", {}))
