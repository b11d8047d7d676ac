"""Prefect artifacts: what a step leaves to be read beside its logs."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from graftline.orchestration import pipeline
from graftline.orchestration.retry import patiently


def markdown(key: str, text: str, description: str) -> None:
    """Leaves a text.

    Args:
        key: Lower-case words joined by dashes; the history of a key is shown as one.
        text: Markdown.
        description: One line on what it is.
    """
    patiently(
        lambda: create_markdown_artifact(text, key=key, description=description),
        _say,
    )


def _say(text: str) -> None:
    try:
        pipeline.current().screen.say(text)
    except RuntimeError:
        # Not every flow holds the pipeline.
        get_run_logger().warning(text)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; columns after the first are aligned to the right."""
    marks = ["---", *("--:" for _ in columns[1:])]
    lines = [columns, marks, *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def picture(path: Path) -> str:
    """A PNG as a Markdown image that needs no server to fetch it from."""
    title = path.stem.replace("_", " ")
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"![{title}](data:image/png;base64,{data})"


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
