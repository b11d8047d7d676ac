"""Prefect artifacts: what a step leaves to be read beside its logs."""

from __future__ import annotations

import base64
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
    patiently(lambda: create_markdown_artifact(text, key=key, description=description), _say)


def _say(text: str) -> None:
    try:
        pipeline.current().screen.say(text)
    except RuntimeError:
        # Not every flow holds the pipeline.
        get_run_logger().warning(text)


def picture(path: Path) -> str:
    """A PNG as a Markdown image that needs no server to fetch it from."""
    title = path.stem.replace("_", " ")
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"![{title}](data:image/png;base64,{data})"
