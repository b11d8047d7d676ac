"""Tables with a file in each row, on one line: a path that is too long loses its middle."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import JustifyMethod
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_LEAST_FILE_CELLS = 24
NUMBERS = ("probability",)
"""The columns of numbers."""


def file_table(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Table:
    """A table.

    Args:
        titles: Of the columns, the first of which has the files.
        rows: A file as it is, and the other cells, which may hold Rich's marks.
        width: Of the terminal, in cells.
    """
    widest = [
        max([cell_len(title), *(cell_len(Text.from_markup(row[at]).plain) for row in rows)])
        for at, title in enumerate(titles[1:], 1)
    ]
    # Of the frame a column takes a line and a space on each side.
    left = max(width - sum(widest) - 3 * len(titles) - 1, _LEAST_FILE_CELLS)
    table = Table()
    for title in titles:
        # A reason may hold a command, of which nothing may be left out.
        justify: JustifyMethod = "right" if title in NUMBERS else "left"
        table.add_column(title, justify=justify, overflow="fold")
    for file, *others in rows:
        table.add_row(escape(_shortened(file, left)), *others)
    return table


def _shortened(path: str, cells: int) -> str:
    """The path with its middle left out, if it takes more cells: its end tells files apart."""
    if cell_len(path) <= cells:
        return path
    begun = set_cell_size(path, cells // 3).rstrip()
    end = path
    while cell_len(end) > cells - cell_len(begun) - 1:
        end = end[1:]
    return f"{begun}…{end}"
