"""Shows ``graftline doctor``: what is well, what is not, and what helps."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graftline.core.counts import counted
from graftline.core.workspace import Workspace
from graftline.operations.doctor import examine

SICK = 2
_STYLES = {"well": "green", "note": "yellow", "fault": "red"}


def show_doctor(workspace: Workspace, *, as_json: bool = False) -> int:
    """Runs ``graftline doctor``.

    Returns:
        The exit code: 0 if all is well, 2 if anything is not.
    """
    found = examine(workspace)
    code = 0 if found.well else SICK
    console = Console(soft_wrap=as_json, highlight=False)
    if as_json:
        console.print(found.model_dump_json(indent=2), markup=False)
        return code
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for one in found.findings:
        style = _STYLES[one.state]
        grid.add_row(one.name, f"[{style}]{one.state}[/{style}]", escape(one.told))
        if one.do:
            grid.add_row("", "", escape(f"do: {one.do}"))
    console.print(grid)
    faults = sum(one.state == "fault" for one in found.findings)
    console.print("All is well." if found.well else f"{counted(faults, 'fault')}.")
    return code
