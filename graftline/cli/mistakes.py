"""Shows ``graftline mistakes``: the test images that the model names wrongly."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from graftline.cli.file_tables import file_table
from graftline.core.errors import visible
from graftline.core.params import read_params
from graftline.core.workspace import Workspace
from graftline.evaluation.wrong_answers import wrong_answers


def show_mistakes(workspace: Workspace, *, as_json: bool, limit: int) -> int:
    """Runs ``graftline mistakes``.

    Args:
        workspace: The checkout.
        as_json: Whether each is printed as a JSON object on a line of its own.
        limit: How many are shown, the surest first; 0 shows all.

    Returns:
        The exit code 0.

    Raises:
        MissingOutputError: If no model has been evaluated yet.
    """
    found, images = wrong_answers(workspace, read_params(workspace.params_file))
    shown = found[: limit or None]
    console = Console(highlight=False, soft_wrap=as_json)
    if as_json:
        for one in shown:
            console.print(one.model_dump_json(), markup=False)
        return 0
    told = f"{len(found):,} of {images:,} test images are named wrongly"
    if len(shown) < len(found):
        told += f"; the {len(shown):,} surest (all: --limit 0)"
    console.print(told)
    if shown:
        titles = ("file", "is", "taken for", "probability")
        rows = [
            (
                visible(one.file),
                escape(visible(one.label)),
                escape(visible(one.predicted)),
                f"{one.probability:.1%}",
            )
            for one in shown
        ]
        console.print(file_table(titles, rows, console.width))
    return 0
