"""Shows ``graftline predict``: the labels of image files, with probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graftline.core.errors import visible
from graftline.core.workspace import Workspace
from graftline.data.image_files import told_left_out
from graftline.inference.predict import Prediction, predict


def show_predictions(
    workspace: Workspace,
    files: Sequence[str],
    *,
    as_json: bool = False,
    top: int = 3,
    model: Path | None = None,
) -> int:
    """Runs ``graftline predict``.

    Returns:
        The exit code: 0, or 2 if a file could not be read or nothing was found.
    """
    console = Console(soft_wrap=as_json, highlight=False)
    complaints = Console(stderr=True, soft_wrap=True, highlight=False)
    predictions = []
    left_out: Counter[str] = Counter()
    for prediction in predict(files, workspace, model, left_out):
        predictions.append(prediction)
        if as_json:
            console.print(prediction.to_json(), markup=False)
    if left_out:
        complaints.print(f"left out: {told_left_out(left_out)}", markup=False)
    if not predictions:
        complaints.print("error: there are no images here", style="red")
        return 2
    if not as_json:
        console.print(_table(predictions, top))
    broken = sum(one.error is not None for one in predictions)
    if broken:
        complaints.print(
            f"error: {broken} of {len(predictions)} files could not be read", style="red"
        )
    return 2 if broken else 0


def _table(predictions: Sequence[Prediction], top: int) -> Table:
    table = Table()
    table.add_column("file", overflow="fold")
    table.add_column("label")
    table.add_column("probability", justify="right")
    if top > 1:
        table.add_column("runners-up")
    for one in predictions:
        table.add_row(*_row(one, top))
    return table


def _row(one: Prediction, top: int) -> list[str]:
    if one.error is not None:
        cells = [escape(visible(one.file)), "[red]not read[/red]", "", escape(visible(one.error))]
        return cells[: 3 + (top > 1)]
    others = list(one.probabilities.items())[1:top]
    runners_up = ", ".join(f"{escape(name)} {value:.1%}" for name, value in others)
    row = [
        escape(visible(one.file)),
        f"[bold]{escape(str(one.label))}[/bold]",
        f"{one.probability:.1%}",
    ]
    return [*row, runners_up] if top > 1 else row
