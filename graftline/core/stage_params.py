"""Which parameters each DVC stage reads, as ``dvc.yaml`` says."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from graftline.core.dvc_file import DVC_FILE, stages_in
from graftline.core.dvc_lock import LOCK_FILE, read_lock, read_locked_stage
from graftline.core.errors import ParamsError
from graftline.core.params import Params, flattened, params_from_record, read_params, read_record
from graftline.core.workspace import PARAMS_FILE, Workspace

READ_AFTER_TRAINING = ("register", "promote")
"""The sections that the steps read which are no stages: they decide on what has been trained."""
PUTS_IN = "graftline upgrade puts them in with their defaults; graftline run does so, too"
_ABSENT = object()


def keys_of_stages(root: Path) -> dict[str, tuple[str, ...]]:
    """The keys of ``params.yaml`` that each stage names, dotted; an empty one is the whole file."""
    try:
        return {name: tuple(_keys(one)) for name, one in stages_in(root / DVC_FILE).items()}
    except TypeError:
        return {}


def keys_read(root: Path) -> set[str]:
    """The keys of ``params.yaml`` that any step reads; the whole file's where nobody knows."""
    stages = keys_of_stages(root)
    if not stages:
        return {""}
    return {key for of_stage in stages.values() for key in of_stage} | {*READ_AFTER_TRAINING}


def absent_keys(root: Path, record: Mapping[str, Any], params: Params) -> dict[str, Any]:
    """The keys that stages name and a parameter file lacks: DVC runs no such stage.

    Args:
        root: The project's.
        record: What the file holds.
        params: The same, with defaults filled in.

    Returns:
        Their values in ``params``, by dotted key.
    """
    named = {key for of_stage in keys_of_stages(root).values() for key in of_stage}
    absent = sorted(key for key in named if key and _value(record, key) is _ABSENT)
    complete = _record(params)
    # Of a key that is none of Graftline's, DVC itself has to say what it makes of it.
    return {key: value for key in absent if (value := _value(complete, key)) is not _ABSENT}


def refuse_absent(workspace: Workspace, params: Params) -> None:
    """Has the first stage say what DVC would say of a later one, after hours.

    Args:
        workspace: The checkout.
        params: What ``params.yaml`` holds, with defaults filled in.

    Raises:
        ParamsError: If it lacks a key that a stage names.
    """
    record = read_record(workspace.params_file)
    if absent := absent_keys(workspace.root, record, params):
        raise ParamsError(
            f"{PARAMS_FILE} lacks {', '.join(absent)}; {DVC_FILE} names them, and DVC runs no "
            "stage without those that it names",
            where=str(workspace.params_file),
            fix=f"{PUTS_IN}; then run the same command again",
        )


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


def changed_params(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> Iterator[str]:
    """What differs in the keys and sections that were recorded, as in ``train.epochs: 3 → 4``."""
    before = flattened(dict(recorded))
    after = flattened({key: present[key] for key in recorded if key in present})
    for key in [*before, *(key for key in after if key not in before)]:
        old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
        if old != new:
            yield f"{key}: {_shown(old)} → {_shown(new)}"


def refuse_changed(workspace: Workspace, stage: str, params: Params) -> None:
    """Sees to it that a stage reads, and DVC writes down, what a run began with.

    What other stages read may change meanwhile: the next run has it.

    Args:
        workspace: The checkout.
        stage: Which one.
        params: What ``params.yaml`` held.

    Raises:
        ParamsError: If it holds something else now of what the stage reads.
    """
    keys = keys_of_stages(workspace.root).get(stage, ())
    before, now = _record(params), _record(read_params(workspace.params_file))
    if changes := list(changed_params(picked(before, keys), picked(now, keys))):
        raise ParamsError(
            "params.yaml was changed while this run was at work:\n  " + "\n  ".join(changes),
            where=f"{workspace.params_file}, which the stage {stage} reads",
            fix="to keep the run, put the values back and run again: finished steps are not "
            "repeated, and training goes on from its checkpoint. To have the new ones, run again",
        )


def refuse_recorded_otherwise(workspace: Workspace, stage: str, params: Params) -> None:
    """Sees to it that ``dvc.lock`` says of a stage what a run began with.

    Raises:
        ParamsError: If it does not.
    """
    locked = read_locked_stage(workspace.root, stage)
    if locked is None:
        return
    # DVC writes down what stands in the file; what it leaves out has its default.
    recorded = _overlaid(_record(params), locked.params)
    if changes := list(changed_params(_record(params), recorded)):
        raise ParamsError(
            "params.yaml was changed at the very end of a stage:\n  " + "\n  ".join(changes),
            where=f"{workspace.root / LOCK_FILE}: what it says of {stage}",
            fix=f"run dvc repro --force --single-item {stage}, and run again",
        )


def params_as_used(workspace: Workspace, stage: str, params: Params) -> Params:
    """What a stage and those before it in ``dvc.lock`` were run with, for the history.

    Args:
        workspace: The checkout, in which DVC runs the stage.
        stage: The stage that is at work.
        params: What it has read.

    Raises:
        ParamsError: If it shares a key with an earlier stage that was run with another value.
    """
    record = _record(params)
    keys = keys_of_stages(workspace.root).get(stage, ())
    locked = read_lock(workspace.root)
    for earlier in takewhile(lambda name: name != stage, keys_of_stages(workspace.root)):
        # What another version of the parameters wrote says nothing about these.
        with suppress(ParamsError):
            record = _overlaid(record, locked[earlier].params if earlier in locked else {})
    if changes := list(changed_params(picked(record, keys), picked(_record(params), keys))):
        raise ParamsError(
            "params.yaml was changed while DVC was at work:\n  " + "\n  ".join(changes),
            where=f"{workspace.params_file}, which the stage {stage} and earlier ones read",
            fix="run dvc repro again, which runs the earlier ones with the new values",
        )
    return params_from_record(record, str(workspace.root / LOCK_FILE))


def _overlaid(record: dict[str, Any], locked: Mapping[str, Any]) -> dict[str, Any]:
    """A record of parameters with the values that ``dvc.lock`` names, defaults filled in."""
    changed = copy.deepcopy(record)
    for key, value in locked.items():
        *sections, last = key.split(".")
        place = changed
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return _record(params_from_record(changed, LOCK_FILE))


def _record(params: Params) -> dict[str, Any]:
    return params.model_dump(mode="json", by_alias=True)


def _keys(stage: Mapping[str, Any]) -> Iterator[str]:
    for entry in stage.get("params") or ():
        if not isinstance(entry, Mapping):
            yield str(entry)
        elif PARAMS_FILE in entry:
            yield from map(str, entry[PARAMS_FILE] or ("",))


def _value(record: Any, key: str) -> Any:
    for part in key.split("."):
        record = record.get(part, _ABSENT) if isinstance(record, Mapping) else _ABSENT
    return record


def _shown(value: object) -> str:
    if value is _ABSENT:
        return "absent"
    return value if isinstance(value, str) else json.dumps(value)
