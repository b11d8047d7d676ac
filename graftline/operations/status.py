"""``graftline status``: what is current, what would run and why, and what came out last."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from graftline.core.code_lock import CODE_LOCK, changed_code
from graftline.core.dvc_lock import LockedStage, read_lock
from graftline.core.errors import GraftlineError, PipelineBusyError
from graftline.core.locks import holder
from graftline.core.params import read_record
from graftline.core.records import Metrics, Record
from graftline.core.records.register import Registered
from graftline.core.repository import check_repository
from graftline.core.stage_params import changed_params
from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace
from graftline.operations.dvc_commands import STATUS, dvc_ended
from graftline.operations.own_stages import named_stages, own_stages
from graftline.registry.tracking import LastRun, last_run

_BUSY = "blocked by"
_ALONE = "no step waits for it: dvc repro runs it, a flow only where it calls it"

State = Literal["current", "would run", "follows", "unknown"]


class StageStatus(Record):
    """One stage."""

    name: str
    state: State
    """``follows``: it runs if the output of a stage before it, which would run, changes."""
    reasons: tuple[str, ...]


class Status(Record):
    """Everything that ``graftline status`` tells."""

    stages: tuple[StageStatus, ...]
    metrics: Metrics | None
    metrics_current: bool
    """Whether no stage up to ``evaluate`` would run, so that the metrics are those of what lies
    here."""
    last_run: LastRun | None
    registered: Registered | None
    holder: str | None
    """The process that holds the pipeline."""


def status(workspace: Workspace) -> Status:
    """Looks at the checkout; changes nothing.

    Raises:
        ParamsError: If ``params.yaml`` cannot be read.
        GraftlineError: If DVC cannot say what is current.
    """
    current = holder(workspace)
    try:
        stages = _stages(workspace)
    except PipelineBusyError as error:
        unknown = (error.what,)
        stages = [StageStatus(name=name, state="unknown", reasons=unknown) for name in STAGES]
    return Status(
        stages=tuple(stages),
        metrics=Metrics.find_in(workspace),
        # What export would do changes no metric.
        metrics_current=all(one.state == "current" for one in stages if one.name != "export"),
        last_run=last_run(workspace),
        registered=Registered.find_in(workspace),
        holder=str(current) if current else None,
    )


def _stages(workspace: Workspace) -> list[StageStatus]:
    changes = _dvc_status(workspace.root)
    locked = read_lock(workspace.root)
    present = read_record(workspace.params_file)
    unlocked = changed_code(workspace) if (workspace.root / CODE_LOCK).exists() else ()
    found: list[StageStatus] = []
    own = own_stages(workspace.root, changes)
    in_order = [one for stage in STAGES for one in (*own.get(stage, ()), stage)]
    known = {*in_order, *changes, *locked}
    alone = [
        one
        for one in named_stages(workspace.root, changes)
        # Those of a loop (foreach, matrix) are named one by one.
        if one not in in_order and not any(name.startswith(f"{one}@") for name in known)
    ]
    for name in (*in_order, *alone):
        reasons = tuple(_reasons(changes.get(name, ()), locked.get(name), present))
        if reasons and name in alone:
            reasons += (_ALONE,)
        if name in unlocked:
            reasons += (f"its code has changed, which {CODE_LOCK} does not say yet",)
        awaited = _awaited(locked, name, found)
        state: State = "would run" if reasons else "follows" if awaited else "current"
        if state == "follows":
            reasons = (f"depends on {', '.join(awaited)}",)
        found.append(StageStatus(name=name, state=state, reasons=reasons))
    return found


def _dvc_status(root: Path) -> dict[str, list[Any]]:
    done = dvc_ended(root, *STATUS)
    if done.returncode == 0:
        changes: dict[str, list[Any]] = json.loads(done.stdout or "{}")
        return changes
    said = done.stderr.strip()
    if _BUSY in said:
        raise PipelineBusyError("DVC cannot say while a stage is at work")
    check_repository(root)
    raise GraftlineError(
        "DVC cannot say what is current",
        where=str(root / "dvc.yaml"),
        fix=said.splitlines()[-1] if said else "run dvc status",
    )


def _reasons(
    changes: Sequence[Any], locked: LockedStage | None, present: Mapping[str, Any]
) -> Iterator[str]:
    if changes and locked is None:
        yield "has never run here"
        return
    for change in changes:
        if isinstance(change, str):
            yield change
            continue
        for kind, paths in change.items():
            if kind == "changed command" or not isinstance(paths, dict):
                yield str(kind)
                continue
            for path, what in paths.items():
                yield from _changed(kind, path, what, locked, present)


def _changed(
    kind: str, path: str, what: Any, locked: LockedStage | None, present: Mapping[str, Any]
) -> Iterator[str]:
    if path == "params.yaml" and locked is not None:
        yield from changed_params(locked.params, present)
    elif path == CODE_LOCK:
        yield "its code has changed"
    elif kind == "changed outs":
        yield f"output {path} is {'missing' if what == 'deleted' else what}"
    else:
        yield f"{path} is {'missing' if what == 'deleted' else what}"


def _awaited(
    locked: Mapping[str, LockedStage], name: str, before: Sequence[StageStatus]
) -> list[str]:
    read = locked[name].deps if name in locked else {}
    return [
        stage.name
        for stage in before
        if stage.state != "current"
        and stage.name in locked
        and any(_overlap(path, out) for path in read for out in locked[stage.name].outs)
    ]


def _overlap(path: str, out: str) -> bool:
    return path == out or path.startswith(f"{out}/") or out.startswith(f"{path}/")
