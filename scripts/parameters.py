"""Writes the files that are made from the code: ``python -m scripts.parameters``.

That is ``params.schema.json``, ``docs/parameters.md``, ``docs/backbones.md`` and the picture of the
packages.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graftline.core.files import write_text
from graftline.core.markdown import table
from graftline.core.params import json_schema
from scripts.backbones import backbones_page
from scripts.packages import packages_picture

_NUMBERS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "up to {}",
    "exclusiveMaximum": "below {}",
}
_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}
_INTRODUCTION = """\
# Parameters

<!-- Written by `make schema` from graftline/core/params/; a test keeps it current. -->

`params.yaml` holds every parameter, in one section per step. A key that is not listed here, a value
of another kind and a combination that cannot work are refused before anything runs. A key that is
left out takes its default. `params.schema.json` tells the same to editors.

Any key can be changed by its dotted name, for one run with `--once`, and for good without it:

    graftline run --once --set train.learning_rate=0.0005 --set "freeze.strategy=last_blocks: 2"
    dvc exp run -S train.learning_rate=0.0005 -S "freeze.strategy=last_blocks: 2"

With `--set`, the value of a key that is text (`data.path`, `backbone.cut`, `notify.command`) is the
text as it stands: `--set "data.path=/photos #2"` is the folder `/photos #2`, and quotes within
would be part of the name. The word `null` takes such a value away, where null is allowed; a folder
of that name is `./null`. All other values are read as YAML. In `params.yaml`, put text that YAML
would read otherwise into quotes: `path: "/photos #2"`. DVC's `-S` wants quotes within the quotes of
the shell: `-S "data.path='/photos #2'"`.

`~` and `~name` at the beginning of `data.path` and `backbone.weights` are that home. A flow writes
it out in `params.yaml`, since DVC, which hashes the folder, knows no `~`.
"""


def main() -> int:
    """Writes the files into the current directory, the checkout's root."""
    for name, text in files().items():
        write_text(Path.cwd() / name, text)
        print(f"{name}: written")
    return 0


def files() -> dict[str, str]:
    """What the generated files hold, by their path in the checkout."""
    schema = json_schema()
    return {
        "params.schema.json": json.dumps(schema, indent=2) + "\n",
        "docs/parameters.md": parameters_page(schema),
        "docs/backbones.md": backbones_page(),
        "docs/images/packages.svg": packages_picture(Path(__file__).resolve().parents[1]),
    }


def parameters_page(schema: dict[str, Any]) -> str:
    """The reference of all parameters, as Markdown, from their JSON schema."""
    definitions = schema["$defs"]
    parts = [_INTRODUCTION]
    single = {}
    for name, section in schema["properties"].items():
        if "$ref" not in section:
            single[name] = section
            continue
        definition = _resolved(section, definitions)
        parts.append(
            f"## {name}\n\n{definition['description'].replace('``', '`')}\n\n"
            + _table(name + ".", definition["properties"], definition, definitions)
        )
    parts.insert(1, "## At the top\n\n" + _table("", single, schema, definitions))
    return "\n".join(parts)


def _table(
    prefix: str, properties: dict[str, Any], owner: dict[str, Any], definitions: dict[str, Any]
) -> str:
    rows = []
    for key, value in _leaves(properties, definitions):
        needed = key in owner.get("required", ())
        default = "must be given" if needed else f"`{json.dumps(value['default'])}`"
        allowed = _allowed(value, definitions)
        rows.append((f"`{prefix}{key}`", allowed, default, value["description"]))
    return table(("key", "allowed", "default", "meaning"), rows, "llll") + "\n"


def _leaves(
    properties: dict[str, Any], definitions: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keys with their schemas; a section within a section gives its own keys, after a dot."""
    for key, value in properties.items():
        inner = _resolved(value, definitions) if "$ref" in value else {}
        if inner.get("type") == "object":
            yield from _leaves(inner["properties"], definitions, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _allowed(value: dict[str, Any], definitions: dict[str, Any]) -> str:
    value = _resolved(value, definitions)
    if "anyOf" in value:
        return " or ".join(_allowed(option, definitions) for option in value["anyOf"])
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{option}`" for option in value["enum"])
    if value["type"] == "object":
        ((key, inner),) = value["properties"].items()
        return f"`{key}:` {_allowed(inner, definitions)}"
    if value["type"] == "array":
        return f"list, each a {_allowed(value['items'], definitions)}"
    limits = [text.format(value[word]) for word, text in _NUMBERS.items() if word in value]
    if "pattern" in value:
        limits.append(f"that matches `{value['pattern']}`")
    return " ".join([_TYPES[value["type"]], *limits])


def _resolved(value: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = value.get("$ref")
    if reference is None:
        return value
    resolved: dict[str, Any] = definitions[reference.rpartition("/")[2]]
    return resolved


if __name__ == "__main__":
    sys.exit(main())
