"""``graftline status``: what is current, what would run and why, and what came out last."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from graftline.core.code_lock import CODE_LOCK, changed_code
from graftline.core.dvc_lock import LockedStage, read_lock
from graftline.core.errors import GraftlineError, MissingOutputError, PipelineBusyError
from graftline.core.locks import holder
from graftline.core.params import read_record
from graftline.core.records import Metrics, Record
from graftline.core.records.register import Registered
from graftline.core.repository import check_repository
from graftline.core.stage_params import changed_params
from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace
from graftline.operations.dvc_commands import STATUS, dvc_ended
from graftline.registry.tracking import LastRun, last_run

_MAX_REASONS_SHOWN = 6
_BUSY = "blocked by"
_STYLES = {"current": "green", "would run": "yellow", "follows": "yellow", "unknown": "dim"}

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
        metrics=_read(Metrics, workspace.metrics),
        # What export would do changes no metric.
        metrics_current=all(one.state == "current" for one in stages if one.name != "export"),
        last_run=last_run(workspace),
        registered=_read(Registered, workspace.var / "registered.json"),
        holder=str(current) if current else None,
    )


def show_status(workspace: Workspace, *, as_json: bool = False) -> int:
    """Runs ``graftline status``.

    Returns:
        The exit code 0.
    """
    found = status(workspace)
    console = Console(soft_wrap=as_json, highlight=False)
    if as_json:
        console.print(found.model_dump_json(indent=2), markup=False)
        return 0
    console.print(_table(found.stages))
    for line in _lines(found):
        console.print(line, markup=False, soft_wrap=True)
    return 0


def _stages(workspace: Workspace) -> list[StageStatus]:
    changes = _dvc_status(workspace.root)
    locked = read_lock(workspace.root)
    present = read_record(workspace.params_file)
    unlocked = changed_code(workspace) if (workspace.root / CODE_LOCK).exists() else ()
    found: list[StageStatus] = []
    for name in STAGES:
        reasons = tuple(_reasons(changes.get(name, ()), locked.get(name), present))
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


def _table(stages: Sequence[StageStatus]) -> Table:
    from rich.markup import escape

    table = Table()
    table.add_column("stage")
    table.add_column("state", no_wrap=True)
    table.add_column("why", overflow="fold")
    for stage in stages:
        shown = list(stage.reasons[:_MAX_REASONS_SHOWN])
        if more := len(stage.reasons) - len(shown):
            shown.append(f"and {more} more")
        style = _STYLES[stage.state]
        why = "\n".join(escape(reason) for reason in shown)
        table.add_row(stage.name, f"[{style}]{stage.state}[/{style}]", why)
    return table


def _lines(found: Status) -> Iterator[str]:
    if found.holder:
        yield f"pipeline    held by {found.holder}"
    if found.metrics:
        one = found.metrics
        earlier = "" if found.metrics_current else ", of an earlier state"
        yield (
            f"metrics     test accuracy {one.test_accuracy:.4f} (95 % interval "
            f"{one.test_accuracy_low:.4f} to {one.test_accuracy_high:.4f}) on "
            f"{one.test_images} images{earlier}"
        )
    else:
        yield "metrics     none yet"
    if found.last_run:
        run = found.last_run
        state = "interrupted" if run.interrupted else run.status.lower()
        yield f"last run    {run.name}: {state}, by {run.door} ({run.run_id})"
    else:
        yield "last run    none yet"
    if found.registered:
        model = found.registered
        yield f"registered  {model.model_name} version {model.version}, {model.alias}"
    else:
        yield "registered  none yet"


def _read(kind: type[Any], path: Path) -> Any:
    try:
        return kind.read(path)
    except MissingOutputError:
        return None
