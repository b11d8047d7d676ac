"""Puts ``--params`` and ``--set`` into ``params.yaml``, where DVC reads them."""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from graftline.errors import ParamsError
from graftline.params import (
    Params,
    params_from_record,
    read_params,
    read_record,
    with_overrides,
)
from graftline.storage import write_text
from graftline.workspace import Workspace

_WIDTH = 1000


def apply_overrides(
    workspace: Workspace, params_file: Path | None, overrides: Sequence[str]
) -> tuple[Params, Path | None]:
    """Checks the parameters with all overrides, and only then writes them to ``params.yaml``.

    Args:
        workspace: The checkout.
        params_file: Takes the place of ``params.yaml``, word for word.
        overrides: ``key=value`` texts, set in it; its comments stay.

    Returns:
        The parameters, and where the former ``params.yaml`` lies now if it was replaced.

    Raises:
        ParamsError: If anything is not allowed; ``params.yaml`` is as it was.
    """
    source = params_file or workspace.params_file
    if not overrides and params_file is None:
        return read_params(source), None
    text = _text(source)
    record = with_overrides(read_record(source), overrides)
    params = params_from_record(record, _origin(source, overrides))
    if overrides:
        text = _with_values(text, record, overrides)
    if workspace.params_file.exists() and _text(workspace.params_file) == text:
        return params, None
    kept = _keep(workspace)
    write_text(workspace.params_file, text)
    return params, kept


def _origin(source: Path, overrides: Sequence[str]) -> str:
    return " ".join([str(source), *(f"--set {override}" for override in overrides)])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ParamsError(
            "there is no parameter file here",
            where=str(path),
            fix="run in the checkout's root, or name an existing file with --params",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"the parameter file cannot be read: {error}", where=str(path)) from error


def _with_values(text: str, record: dict[str, Any], overrides: Sequence[str]) -> str:
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    document = yaml.load(text)
    for override in overrides:
        keys = override.partition("=")[0].split(".")
        value: Any = record
        for key in keys:
            value = value[key]
        section = document
        for key in keys[:-1]:
            if not isinstance(section.get(key), CommentedMap):
                section[key] = CommentedMap()
            section = section[key]
        section[keys[-1]] = _flow_style(value)
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


class _Representer(RoundTripRepresenter):
    """Writes null as the word, which says more than nothing at all."""

    def represent_null(self, _: Any) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_null)


def _flow_style(value: Any) -> Any:
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
    write_text(kept, _text(workspace.params_file))
    return kept
