"""Tables as CSV, which people open in spreadsheets: no cell of theirs is taken for a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table in UTF-8, its columns' names first.

    A text that a spreadsheet would take for a formula gets an apostrophe before it, which makes it
    a text there (OWASP, "CSV Injection"). Numbers stay as they are, written as text or not.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([_harmless(name) for name in columns])
        for row in rows:
            writer.writerow([_harmless(cell) for cell in row])


def _harmless(cell: object) -> object:
    if not isinstance(cell, str) or not cell.startswith(_FORMULA_SIGNS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
