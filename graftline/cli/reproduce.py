"""Shows ``graftline reproduce``: a run as it was, and as it comes out now."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from graftline.core.errors import visible
from graftline.core.processes import termination_as_interrupt
from graftline.core.workspace import Workspace
from graftline.operations.reproduce import DIFFERENT, Reproduction, reproduce


def show_reproduction(workspace: Workspace, which: str, *, as_json: bool) -> int:
    """Runs ``graftline reproduce``.

    Returns:
        The exit code: 0 if the same came out, 1 if not.
    """
    console = Console(highlight=False, soft_wrap=as_json)
    steps = Console(stderr=True, highlight=False)
    with termination_as_interrupt(), steps.status("reading the history") as status:

        def on_step(text: str) -> None:
            status.update(text)
            if not steps.is_terminal:
                steps.print(text, markup=False)

        found = reproduce(workspace, which, on_step)
    if as_json:
        record = found.model_dump(mode="json") | {"same": found.same}
        console.print(json.dumps(record, indent=2), markup=False)
    else:
        console.print(_table(found))
        console.print(_verdict(found), markup=False)
    return 0 if found.same else DIFFERENT


def _table(found: Reproduction) -> Table:
    table = Table()
    for title in ("what", "then", "now", ""):
        table.add_column(title, overflow="fold")
    for one in found.compared:
        mark = "[green]same[/green]" if one.same else "[red]differs[/red]"
        if not one.decides:
            mark = "[yellow]changed[/yellow]"
        table.add_row(one.what, _shown(one.then, one.same), _shown(one.now, one.same), mark)
    return table


def _shown(value: str | float | None, same: bool) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        # A difference may be one of the last digit.
        return f"{value:.6g}" if same else repr(value)
    return visible(value[:16])


def _verdict(found: Reproduction) -> str:
    by = f", by graftline {found.other_version}" if found.other_version else ""
    begun = f"Run {found.run_id[:12]} ({visible(found.name)}), data from {found.data_from}{by}: "
    if found.same:
        return begun + "the same came out, to the last bit."
    names = ", ".join(one.what for one in found.compared if one.decides and not one.same)
    changed = [one.what for one in found.compared if not one.decides]
    why = f" Since then {', '.join(changed)} changed." if changed else ""
    return f"{begun}it came out differently: {names}.{why}"
