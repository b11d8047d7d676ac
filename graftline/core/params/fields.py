"""The base of all sections, and the types that several of them share."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

FileName = Annotated[str, StringConstraints(pattern=r"^[^/\\]+$")]

HomePath = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path of which ``~`` and ``~name`` at the beginning are a home."""

Fraction = Annotated[float, Field(gt=0, lt=1)]

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Strict and frozen: no unknown key, no other type, nothing infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


_KINDS = {int: "a whole number", float: "a number", str: "text"}

_SHOWN_CHARACTERS = 80


def shown(value: Any) -> str:
    """A value as a message quotes it, cut where it is long, with its kind."""
    if value is None:
        return "null"
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}…"
    kind = _KINDS.get(type(value))
    return f"{text} ({kind})" if kind else text
