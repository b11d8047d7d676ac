"""Shows ``graftline status``: what is current, what would run and why, and what came out last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graftline.core.counts import counted
from graftline.core.workspace import Workspace
from graftline.operations.status import StageStatus, Status, status

_MAX_REASONS_SHOWN = 6
_STYLES = {"current": "green", "would run": "yellow", "follows": "yellow", "unknown": "dim"}


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


def _table(stages: Sequence[StageStatus]) -> Table:
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
            f"{counted(one.test_images, 'image')}{earlier}"
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
