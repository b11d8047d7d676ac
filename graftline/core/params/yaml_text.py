"""Reads YAML that may be hostile: too large, too deep, unfolding beyond all bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent

from graftline.core.errors import ParamsError

_MAX_FILE_BYTES = 1 << 16

_MAX_NODES, _MAX_DEPTH = 10_000, 40

_PLAIN_SIGNS = 200


def read_record(path: Path) -> dict[str, Any]:
    """A parameter file as plain keys and values, unchecked."""
    record = parse_yaml(read_text(path), str(path))
    return record if isinstance(record, dict) else {}


def read_text(path: Path) -> str:
    """A parameter file's text.

    Raises:
        ParamsError: If it is absent, cannot be read, or is larger than parameters ever are.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise ParamsError(
                "the parameter file is too large",
                where=str(path),
                allowed=f"at most {_MAX_FILE_BYTES} bytes; all parameters take about 4000",
            )
        return data.decode("utf-8")
    except FileNotFoundError as error:
        raise ParamsError(
            "there is no parameter file here",
            where=str(path),
            fix="run in the checkout's root, or name an existing file with --params",
        ) from error
    except (OSError, ValueError) as error:
        raise ParamsError(f"the parameter file cannot be read: {error}", where=str(path)) from error


def parse_yaml(text: str, where: str) -> Any:
    """The values of a text in YAML 1.2.

    Raises:
        ParamsError: If it is no YAML, or would unfold beyond what parameters are; ``where`` names
            the file or key in it.
    """
    try:
        _refuse_unfolding(text, where)
        # YAML 1.2, as DVC reads it: 1e-3 is a number, and a key that stands twice is an error.
        return YAML(typ="safe", pure=True).load(text)
    except ParamsError:
        raise
    except YAMLError as error:
        raise ParamsError(f"this is no YAML: {error}", where=where) from error
    except Exception as error:  # What looks like a date or a number and is none fails anyhow.
        raise ParamsError(
            f"a value cannot be read: {type(error).__name__}: {error}",
            where=where,
            fix="put it in quotes if it is meant as text",
        ) from error


def _refuse_unfolding(text: str, where: str) -> None:
    """A short text may stand for more values, or a deeper nesting, than anything can work through.

    A few aliases of aliases unfold to billions of values, and the scanner's time grows with the
    square of the depth.
    """
    if "*" not in text and sum(map(text.count, "[{?-")) <= _PLAIN_SIGNS:
        return
    nodes, sizes, opened = 0, dict[str, int](), list[tuple[str | None, int]]()
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before
        elif isinstance(event, AliasEvent):
            nodes += sizes.get(str(event.anchor), 1)
        elif isinstance(event, NodeEvent):
            if isinstance(event, CollectionStartEvent):
                opened.append((event.anchor, nodes))
            nodes += 1
        if nodes > _MAX_NODES or len(opened) > _MAX_DEPTH:
            raise ParamsError(
                "the aliases (*name) unfold to more values than parameters are"
                if nodes > _MAX_NODES
                else "the values are nested deeper than parameters are",
                where=where,
                allowed=f"at most {_MAX_NODES} values, {_MAX_DEPTH} levels deep",
                fix="write the values out",
            )
