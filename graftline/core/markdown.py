"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

MOST_CLASSES = 100
"""So many are shown in full."""
SHOWN_CLASSES = 30


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


def class_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    worth: Callable[[Sequence[object]], float],
    which: str,
    all_in: str,
    total: Sequence[object] = (),
) -> str:
    """A table with a row for each class; of many classes those alone that are worth a look.

    Args:
        columns: Their titles.
        rows: A row for each class.
        worth: Of a row: the least are shown first where not all are.
        which: Those that are shown then, such as ``with the fewest images``.
        all_in: The file that has all of them.
        total: A last row, if there is one.
    """
    last = [total] if total else []
    if len(rows) <= MOST_CLASSES:
        return table(columns, [*rows, *last])
    shown = sorted(rows, key=worth)[:SHOWN_CLASSES]
    said = f"The {SHOWN_CLASSES} of {len(rows):,} classes {which}; all of them: `{all_in}`."
    return f"{said}\n\n{table(columns, [*shown, *last])}"


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return " ".join(text.replace("|", "\\|").split())
