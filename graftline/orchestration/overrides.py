"""Puts ``--params`` and ``--set`` into ``params.yaml``, where DVC reads them."""

from __future__ import annotations

import datetime
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from graftline.core.dvc_file import is_output
from graftline.core.files import write_text
from graftline.core.params import (
    NO_FILES,
    Params,
    params_from_record,
    read_params,
    read_record,
    read_text,
    with_overrides,
)
from graftline.core.workspace import Workspace
from graftline.data.source_path import located

_WIDTH = 1000
_REPLACED = object()
# Words and paths of several letters; yes, off, null and so on mean more to some readers of YAML.
_PLAIN = re.compile(
    r"(?!(?:yes|no|on|off|true|false|null)$)[A-Za-z/][\w./-]+", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True)
class Change:
    """What ``params.yaml`` is to hold, checked; nothing is written yet.

    Args:
        params: The parameters.
        text: The file's new text; None leaves it as it is.
    """

    params: Params
    text: str | None

    def write(self, workspace: Workspace) -> Path | None:
        """Writes it; returns where the former ``params.yaml`` lies if it was replaced."""
        if self.text is None or self.text == _present(workspace):
            return None
        kept = _keep(workspace)
        write_text(workspace.params_file, self.text)
        return kept


def plan_overrides(
    workspace: Workspace, params_file: Path | None, overrides: Sequence[str]
) -> Change:
    """Checks the parameters with all overrides.

    Args:
        workspace: The checkout.
        params_file: Takes the place of ``params.yaml``, word for word.
        overrides: ``key=value`` texts, set in it; its comments stay. Paths that begin with ``~``
            are written with the home that it stands for.

    Raises:
        ParamsError: If anything is not allowed.
        DataError: If ``data.path`` leads nowhere; DVC would say so in words of its own.
    """
    source = params_file or workspace.params_file
    record = with_overrides(read_record(source), overrides)
    params = read_params(source) if not overrides else None
    params = _located(params or params_from_record(record, _origin(source, overrides)), workspace)
    keys = [override.partition("=")[0] for override in overrides]
    keys += _with_paths(params, record)
    missing = _missing_sections(params, record)
    if not keys and params_file is None and not missing:
        return Change(params, None)
    text = read_text(source)
    return Change(params, _with_values(text, record, keys, missing))


def overrides_to(params: Params, workspace: Workspace) -> list[str]:
    """The ``key=value`` texts that make these parameters of what ``params.yaml`` holds."""
    before = read_params(workspace.params_file).model_dump(mode="json", by_alias=True)
    found = []
    for name, section in params.model_dump(mode="json", by_alias=True).items():
        if not isinstance(section, dict):
            pairs = [(name, section, before[name])]
        else:
            pairs = [(f"{name}.{key}", one, before[name][key]) for key, one in section.items()]
        found += [
            f"{key}={one if isinstance(one, str) else json.dumps(one)}"
            for key, one, was in pairs
            if one != was
        ]
    return found


def _with_paths(params: Params, record: dict[str, Any]) -> list[str]:
    """Puts paths into the record as DVC takes them, which knows neither ``~`` nor null.

    Returns:
        The keys of those that were others.
    """
    changed = []
    for section, key, value in (
        ("data", "path", params.data.path or NO_FILES),
        ("backbone", "weights", params.backbone.weights),
    ):
        if record[section].get(key) != value:
            record[section][key] = value
            changed.append(f"{section}.{key}")
    return changed


def _missing_sections(params: Params, record: dict[str, Any]) -> dict[str, Any]:
    """What a file leaves out, with its defaults: DVC wants every key that a stage names."""
    complete = params.model_dump(mode="json", by_alias=True)
    return {name: section for name, section in complete.items() if name not in record}


def _located(params: Params, workspace: Workspace) -> Params:
    # What a stage makes need not be there yet.
    if params.data.path is not None and not is_output(workspace.root, params.data.path):
        located(params.data, workspace.root)
    return params


def _present(workspace: Workspace) -> str | None:
    return read_text(workspace.params_file) if workspace.params_file.exists() else None


def _origin(source: Path, overrides: Sequence[str]) -> str:
    return " ".join([str(source), *(f"--set {override}" for override in overrides)])


def _with_values(
    text: str, record: dict[str, Any], keys: Sequence[str], missing: dict[str, Any]
) -> str:
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
            value = value.get(key, _REPLACED) if isinstance(value, dict) else _REPLACED
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
    return stream.getvalue()


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


def _keep(workspace: Workspace) -> Path | None:
    if not workspace.params_file.exists():
        return None
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    kept = workspace.var / "params" / f"params-{now}.yaml"
    write_text(kept, read_text(workspace.params_file))
    return kept
