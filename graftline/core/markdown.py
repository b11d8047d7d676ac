"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], align: str = "") -> str:
    """A table; what would end a cell or a row stands escaped in it.

    Args:
        columns: Their titles; may be empty texts.
        rows: A cell for each column. Whole numbers get commas between their thousands.
        align: A letter for each column, ``l`` or ``r``; by default the first is left and the
            others right.
    """
    letters = align or "l" + "r" * (len(columns) - 1)
    marks = ["--:" if letter == "r" else "---" for letter in letters]
    cells = [[_cell(one) for one in row] for row in (columns, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (cells[0], marks, *cells[1:]))


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return " ".join(text.replace("|", "\\|").split())
