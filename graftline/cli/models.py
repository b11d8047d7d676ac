"""Shows ``graftline models``: the versions in the registry, and what became of each."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graftline.core.workspace import Workspace
from graftline.registry.listing import Model, models

_DIGEST_CHARACTERS = 12


def show_models(workspace: Workspace, *, as_json: bool) -> int:
    """Runs ``graftline models``.

    Returns:
        The exit code 0.
    """
    found = models(workspace)
    console = Console(highlight=False, soft_wrap=as_json)
    if as_json:
        text = json.dumps([one.model_dump(mode="json") for one in found], indent=2)
        console.print(text, markup=False)
    elif found:
        console.print(_table(found))
    else:
        console.print("No version is registered yet; python -m flows.train registers one.")
    return 0


def _table(found: Sequence[Model]) -> Table:
    table = Table()
    table.add_column("version", justify="right")
    table.add_column("aliases", style="bold")
    table.add_column("accuracy", justify="right")
    table.add_column("verdict")
    table.add_column("when", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    for one in found:
        table.add_row(
            one.version,
            "\n".join(escape(alias) for alias in sorted(one.aliases)),
            "" if one.test_accuracy is None else f"{one.test_accuracy:.2%}",
            escape(one.verdict),
            one.when[:16],
            (one.weight_digest or "")[:_DIGEST_CHARACTERS],
        )
    return table
