"""What a spreadsheet would make of a table, and what it must not."""

from __future__ import annotations

import csv
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from graftline.core.csv_files import write_csv


def test_formulas_are_made_texts_and_numbers_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    cells = ("=cmd|' /C calc'!A0", "@SUM(1)", "+a", "-b", "\tx", "-1", "+0.5e3", "a=b", "", -2, 0.5)
    write_csv(path, ("=name", "other"), [(cell, "x") for cell in cells])

    assert path.read_text("utf-8").splitlines()[:3] == [
        "'=name,other",
        "'=cmd|' /C calc'!A0,x",
        "'@SUM(1),x",
    ]
    with path.open(encoding="utf-8", newline="") as file:
        found = [row[0] for row in csv.reader(file)][3:]
    assert found == ["'+a", "'-b", "'\tx", "-1", "+0.5e3", "a=b", "", "-2", "0.5"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_no_cell_begins_as_a_formula(tmp_path_factory, cells: list[str]) -> None:
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    write_csv(path, ["a"] * len(cells), [cells])
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.reader(file))[-1] if any(cells) else cells
    for cell in found:
        if cell[:1] in ("=", "@", "\t", "\r"):
            raise AssertionError(cell)
        if cell[:1] in ("+", "-"):
            float(cell)
