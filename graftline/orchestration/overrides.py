"""Puts ``--params`` and ``--set`` into ``params.yaml``, where DVC reads them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graftline.core.backbones import DEFAULT, usual_cut
from graftline.core.dvc_file import is_output
from graftline.core.errors import ParamsError
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
from graftline.core.params.yaml_changes import with_values
from graftline.core.params.yaml_text import parse_yaml
from graftline.core.stage_params import absent_keys, changed_params
from graftline.core.workspace import Workspace
from graftline.data.source_path import located


@dataclass(frozen=True)
class Change:
    """What ``params.yaml`` is to hold, checked; nothing is written yet.

    Args:
        params: The parameters.
        text: The file's new text; None leaves it as it is.
    """

    params: Params
    text: str | None

    def told(self, workspace: Workspace) -> list[str]:
        """What it would change in the file, a line for each key, as in ``train.epochs: 3 → 4``."""
        present = _present(workspace)
        if self.text is None or self.text == present:
            return []
        try:
            before = read_record(workspace.params_file) if present is not None else {}
        except ParamsError:
            return ["all of it"]
        after = parse_yaml(self.text, str(workspace.params_file))
        # A section that was not there differs in every key of it.
        return list(changed_params({key: {} for key in after} | before, after))

    def write(self, workspace: Workspace) -> Path | None:
        """Writes it; returns where the former ``params.yaml`` lies if it was replaced."""
        if self.text is None or self.text == _present(workspace):
            return None
        kept = _keep(workspace)
        write_text(workspace.params_file, self.text)
        return kept

    def write_and_tell(self, workspace: Workspace, say: Callable[[str], None]) -> Params:
        """Writes it, and tells what changes; returns the parameters."""
        for line in self.told(workspace):
            say(f"params.yaml: {line}, for good")
        if kept := self.write(workspace):
            say(
                f"params.yaml was changed; the former one is {kept.relative_to(workspace.root)} "
                "(or: git checkout params.yaml)"
            )
        return self.params


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
    change = _planned(workspace, params_file, overrides)
    _check_located(change.params, workspace)
    return change


def plan_completion(workspace: Workspace) -> Change:
    """Adds what ``params.yaml`` lacks and DVC wants, with its defaults.

    Raises:
        ParamsError: If it holds anything that is not allowed.
    """
    return _planned(workspace, None, ())


def _planned(workspace: Workspace, params_file: Path | None, overrides: Sequence[str]) -> Change:
    source = params_file or workspace.params_file
    before = read_record(source)
    overrides = [*overrides, *_cut_with_backbone(before, overrides)]
    record = with_overrides(before, overrides)
    params = read_params(source) if not overrides else None
    params = params or params_from_record(record, _origin(source, overrides))
    keys = [override.partition("=")[0] for override in overrides]
    keys += _with_paths(params, record) + _with_named_keys(params, record, workspace)
    missing = _missing_sections(params, record)
    if not keys and params_file is None and not missing:
        return Change(params, None)
    text = read_text(source)
    return Change(params, with_values(text, record, keys, missing))


def _cut_with_backbone(before: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Another backbone does not have the layer after which this one is cut: its usual one then."""
    given = dict(override.partition("=")[::2] for override in overrides)
    section = before.get("backbone")
    now = section.get("name", DEFAULT) if isinstance(section, dict) else DEFAULT
    name = given.get("backbone.name", now)
    if name == now or "backbone.cut" in given:
        return []
    return [f"backbone.cut={usual_cut(name) or 'null'}"]


def overrides_to(params: Params, workspace: Workspace) -> list[str]:
    """The ``key=value`` texts that make these parameters of what ``params.yaml`` holds."""
    before = read_params(workspace.params_file).model_dump(mode="json", by_alias=True)
    other = params.backbone.name != before["backbone"]["name"]
    found = []
    for name, section in params.model_dump(mode="json", by_alias=True).items():
        if not isinstance(section, dict):
            pairs = [(name, section, before[name])]
        else:
            pairs = [(f"{name}.{key}", one, before[name][key]) for key, one in section.items()]
        found += [
            f"{key}={one if isinstance(one, str) else json.dumps(one)}"
            for key, one, was in pairs
            # Left out beside another backbone, it would become the usual one.
            if one != was or (key == "backbone.cut" and other)
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


def _with_named_keys(params: Params, record: dict[str, Any], workspace: Workspace) -> list[str]:
    """Puts in what a section leaves out and a stage names by itself, as in ``compute.device``.

    Returns:
        The keys of those that were absent.
    """
    put_in = []
    for key, value in absent_keys(workspace.root, record, params).items():
        *sections, last = key.split(".")
        if not sections or sections[0] not in record:
            continue  # It comes whole.
        place = record
        for name in sections:
            place = place.setdefault(name, {})
        place[last] = value
        put_in.append(key)
    return put_in


def _missing_sections(params: Params, record: dict[str, Any]) -> dict[str, Any]:
    """What a file leaves out, with its defaults: DVC wants every key that a stage names."""
    complete = params.model_dump(mode="json", by_alias=True)
    return {name: section for name, section in complete.items() if name not in record}


def _check_located(params: Params, workspace: Workspace) -> None:
    # What a stage makes need not be there yet.
    if params.data.path is not None and not is_output(workspace.root, params.data.path):
        located(params.data, workspace.root)


def _present(workspace: Workspace) -> str | None:
    return read_text(workspace.params_file) if workspace.params_file.exists() else None


def _origin(source: Path, overrides: Sequence[str]) -> str:
    return " ".join([str(source), *(f"--set {override}" for override in overrides)])


def _keep(workspace: Workspace) -> Path | None:
    if not workspace.params_file.exists():
        return None
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    kept = workspace.var / "params" / f"params-{now}.yaml"
    write_text(kept, read_text(workspace.params_file))
    return kept
