"""Which parameters each DVC stage reads, as ``dvc.yaml`` says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

DVC_FILE = "dvc.yaml"
_PARAMS_FILE = "params.yaml"
_ABSENT = object()


def keys_of_stages(root: Path) -> dict[str, tuple[str, ...]]:
    """The keys of ``params.yaml`` that each stage names, dotted; an empty one is the whole file.

    Nothing where ``dvc.yaml`` is absent or no such file; DVC itself says what is wrong with it.
    """
    try:
        record = YAML(typ="safe", pure=True).load((root / DVC_FILE).read_text(encoding="utf-8"))
        return {str(name): tuple(_keys(stage)) for name, stage in record["stages"].items()}
    except (OSError, UnicodeDecodeError, YAMLError, KeyError, TypeError, AttributeError):
        return {}


def picked(record: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """What a record of parameters holds under these keys; an absent key is left out.

    Args:
        record: Sections by name, as in ``params.yaml``.
        keys: Dotted, as :func:`keys_of_stages` gives them.
    """
    wanted = set(keys)
    if "" in wanted:
        return dict(record)
    # Of a section and a key in it, the section says it all.
    wanted -= {key for key in wanted if any(key.startswith(f"{one}.") for one in wanted)}
    found = {key: _value(record, key) for key in sorted(wanted)}
    return {key: value for key, value in found.items() if value is not _ABSENT}


def _keys(stage: Mapping[str, Any]) -> Iterator[str]:
    for entry in stage.get("do", stage).get("params") or ():
        if not isinstance(entry, Mapping):
            yield str(entry)
        elif _PARAMS_FILE in entry:
            yield from map(str, entry[_PARAMS_FILE] or ("",))


def _value(record: Any, key: str) -> Any:
    for part in key.split("."):
        record = record.get(part, _ABSENT) if isinstance(record, Mapping) else _ABSENT
    return record
