"""Tables in Markdown: aligned, and with nothing in a cell that ends it."""

from __future__ import annotations

from graftline.core.markdown import table


def test_a_table_has_a_title_for_each_column_and_numbers_on_the_right() -> None:
    assert table(["what", "images"], [("all", 12345)]) == (
        "| what | images |\n| --- | --: |\n| all | 12,345 |"
    )
    assert table(["", ""], [("who", "ann")], "ll") == "|  |  |\n| --- | --- |\n| who | ann |"


def test_nothing_in_a_cell_ends_the_cell_or_the_row() -> None:
    made = table(["class"], [("a|b\r\n| c",)])
    assert made.splitlines() == ["| class |", "| --- |", "| a\\|b \\| c |"]
