"""From ``params.yaml`` to checked parameters."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from graftline.core.errors import ParamsError
from graftline.core.params.messages import explained
from graftline.core.params.sections import Params, section_names
from graftline.core.params.yaml_text import parse_yaml, read_text


def read_params(path: Path) -> Params:
    """Reads and checks a parameter file.

    Raises:
        ParamsError: If the file is absent, is no YAML, or holds anything that is not allowed;
            the message names every key at fault.
    """
    return _params(read_text(path), str(path))


@functools.lru_cache(maxsize=4)
def _params(text: str, where: str) -> Params:
    # A flow looks before and after each stage whether the file is still the same.
    return params_from_record(parse_yaml(text, where), where)


def params_from_record(record: Any, where: str) -> Params:
    """Checks a parsed parameter file; ``where`` names it in errors."""
    if not isinstance(record, dict):
        raise ParamsError(
            f"the file holds {type(record).__name__}, not keys and values",
            where=where,
            allowed=f"the sections {', '.join(section_names())}",
        )
    try:
        text = json.dumps(record)
    except (TypeError, ValueError, RecursionError) as error:
        # Dates, bytes, sets, lists that hold themselves: YAML knows more than parameters are.
        raise ParamsError(
            f"a value is no plain number or text: {error}",
            where=where,
            allowed="numbers, texts (dates in quotes), true, false, null, lists, keys and values",
        ) from error
    try:
        return Params.model_validate_json(text)
    except ValidationError as error:
        raise explained(error, where) from error
