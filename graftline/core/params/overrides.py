"""``key=value`` from a command line, read as the key's type asks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from graftline.core.errors import ParamsError
from graftline.core.params.sections import Params
from graftline.core.params.yaml_text import parse_yaml


def with_overrides(record: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Applies ``key=value`` texts, with dotted keys, to a copy of a record.

    The value of a parameter that is text is the text as it stands; where the parameter may also be
    null, the word ``null`` is. All other values are read as YAML.

    Raises:
        ParamsError: If an override has no ``=`` or its value is no YAML.
    """
    changed = copy.deepcopy(record)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ParamsError(
                f"--set {override} is no key=value",
                allowed="a dotted key and a value, as in train.learning_rate=0.0005",
            )
        *parents, last = key.split(".")
        section = changed
        for parent in parents:
            below = section.get(parent)
            if not isinstance(below, dict):
                below = section[parent] = {}
            section = below
        section[last] = _value(key, text, f"--set {override}")
    return changed


def _value(key: str, text: str, where: str) -> Any:
    options = _options(_annotation(key))
    if str not in options:
        return parse_yaml(text, where)
    if not text.isascii() and text != text.encode("utf-8", "replace").decode("utf-8"):
        raise ParamsError(
            "the value holds bytes that are no text in UTF-8, and the parameter file is text",
            where=where,
            fix="rename the file or folder, or make a link to it that has another name",
        )
    return None if NoneType in options and text == "null" else text


def _annotation(key: str) -> Any:
    """The type of a parameter, by its dotted key; None if there is no such parameter."""
    found: Any = Params
    for name in key.split("."):
        fields = getattr(found, "model_fields", {})
        found = next(
            (field.annotation for own, field in fields.items() if name == (field.alias or own)),
            None,
        )
    return found


def _options(annotation: Any) -> set[Any]:
    """The types that a value may have, without what limits them."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return set().union(*map(_options, get_args(annotation)))
    return {annotation if isinstance(annotation, type) else None}
