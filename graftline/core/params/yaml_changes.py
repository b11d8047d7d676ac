"""Changes values in the text of a parameter file; what it says beside them stays as it is."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

_WIDTH = 1000
_REPLACED = object()
# Words and paths of several letters; yes, off, null and so on mean more to some readers of YAML.
_PLAIN = re.compile(
    r"(?!(?:yes|no|on|off|true|false|null)$)[A-Za-z/][\w./-]+", re.ASCII | re.IGNORECASE
)


def with_values(
    text: str,
    record: Mapping[str, Any],
    keys: Sequence[str],
    missing: Mapping[str, Any],
    comments: Mapping[str, str] | None = None,
) -> str:
    """The text with other values; its comments stay.

    Args:
        text: A parameter file's.
        record: Holds the values.
        keys: Dotted, of the values that are put into the text.
        missing: Sections that are added at its end.
        comments: By dotted key, a line that is written above it.
    """
    if not keys and not missing:
        return text
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    # A file of comments alone holds nothing that could be set.
    document = yaml.load(text) or CommentedMap()
    for dotted in keys:
        *parents, last = dotted.split(".")
        value: Any = record
        for key in (*parents, last):
            value = value.get(key, _REPLACED) if isinstance(value, Mapping) else _REPLACED
        if value is _REPLACED:
            # A later override has put a plain value above this one.
            continue
        section = document
        for key in parents:
            if not isinstance(section.get(key), CommentedMap):
                section[key] = CommentedMap()
            section = section[key]
        section[last] = _styled(value)
    document.update(missing)
    stream = io.StringIO()
    yaml.dump(document, stream)
    changed = stream.getvalue()
    for dotted, comment in (comments or {}).items():
        changed = _commented(changed, dotted, comment)
    return changed


def _commented(text: str, dotted: str, comment: str) -> str:
    """Puts a line above a key; ruamel would put it above the comments of the key before."""
    lines = text.splitlines(keepends=True)
    start, end = 0, len(lines)
    for depth, key in enumerate(dotted.split(".")):
        own = re.compile(rf"{'  ' * depth}{re.escape(key)}:")
        found = next((at for at in range(start, end) if own.match(lines[at])), None)
        if found is None:
            return text
        start = found + 1
        outer = re.compile(rf"(?:  ){{0,{depth}}}\S")
        end = next((at for at in range(start, end) if outer.match(lines[at])), end)
        indent = "  " * depth
    lines.insert(start - 1, f"{indent}# {comment}\n")
    return "".join(lines)


class _Representer(RoundTripRepresenter):
    """Writes null as the word, which says more than nothing at all."""

    def represent_null(self, _: Any) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_null)


def _styled(value: Any) -> Any:
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        # In quotes it is the same text to every reader of YAML, whatever its version.
        return DoubleQuotedScalarString(value)
    if not isinstance(value, (list, dict)):
        return value
    yaml = YAML(typ="rt")
    node = yaml.seq(value) if isinstance(value, list) else yaml.map(**value)
    node.fa.set_flow_style()
    return node
