"""From ``params.yaml`` to checked parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from graftline.core.errors import ParamsError
from graftline.core.params.messages import explained
from graftline.core.params.sections import Params, section_names
from graftline.core.params.yaml_text import read_yaml


def read_params(path: Path) -> Params:
    """Reads and checks a parameter file.

    Raises:
        ParamsError: If the file is absent, is no YAML, or holds anything that is not allowed;
            the message names every key at fault.
    """
    return params_from_record(read_yaml(path), str(path))


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
