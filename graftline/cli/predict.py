"""Shows ``graftline predict``: the labels of image files, with probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from graftline.cli.file_tables import file_table
from graftline.core.errors import visible
from graftline.core.workspace import Workspace
from graftline.data.image_files import told_left_out
from graftline.inference.model_choice import choose_model
from graftline.inference.predict import Prediction, predict


def show_predictions(
    workspace: Workspace,
    files: Sequence[str],
    *,
    as_json: bool = False,
    top: int = 3,
    model: str | None = None,
) -> int:
    """Runs ``graftline predict``.

    Returns:
        The exit code: 0, or 2 if a file could not be read or nothing was found.

    Raises:
        MissingOutputError: If there is no such model.
        TrackingError: If the registry cannot be used.
    """
    console = Console(soft_wrap=as_json, highlight=False)
    complaints = Console(stderr=True, soft_wrap=True, highlight=False)
    chosen = choose_model(workspace, model)
    (complaints if as_json else console).print(chosen.introduction, markup=False, soft_wrap=True)
    predictions = []
    left_out: Counter[str] = Counter()
    for prediction in predict(files, workspace, Path(chosen.folder), left_out):
        predictions.append(prediction)
        if as_json:
            console.print(prediction.to_json(), markup=False)
    if left_out:
        complaints.print(f"left out: {told_left_out(left_out)}", markup=False)
    if not predictions:
        complaints.print("error: there are no images here", style="red")
        return 2
    if not as_json:
        titles = ("file", "label", "probability", "runners-up")[: 3 + (top > 1)]
        rows = [_row(one, top) for one in predictions]
        console.print(file_table(titles, rows, console.width))
    broken = sum(one.error is not None for one in predictions)
    if broken:
        complaints.print(
            f"error: {broken} of {len(predictions)} files could not be read", style="red"
        )
    return 2 if broken else 0


def _row(one: Prediction, top: int) -> list[str]:
    if one.error is not None:
        cells = [visible(one.file), "[red]not read[/red]", "", escape(visible(one.error))]
        return cells[: 3 + (top > 1)]
    others = list(one.probabilities.items())[1:top]
    runners_up = ", ".join(f"{escape(name)} {value:.1%}" for name, value in others)
    row = [visible(one.file), f"[bold]{escape(str(one.label))}[/bold]", f"{one.probability:.1%}"]
    return [*row, runners_up] if top > 1 else row
