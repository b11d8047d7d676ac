"""Tables in Markdown: aligned, and with nothing in a cell that ends it."""

from __future__ import annotations

from graftline.core.markdown import class_table, table


def test_a_table_has_a_title_for_each_column_and_numbers_on_the_right() -> None:
    assert table(["what", "images"], [("all", 12345)]) == (
        "| what | images |\n| --- | --: |\n| all | 12,345 |"
    )
    assert table(["", ""], [("who", "ann")], "ll") == "|  |  |\n| --- | --- |\n| who | ann |"


def test_nothing_in_a_cell_ends_the_cell_or_the_row() -> None:
    made = table(["class"], [("a|b\r\n| c",)])
    assert made.splitlines() == ["| class |", "| --- |", "| a\\|b \\| c |"]


def test_of_many_classes_those_worth_a_look_are_shown() -> None:
    rows = [(f"class {number}", (7 * number) % 500) for number in range(500)]

    def made(count: int) -> str:
        return class_table(
            ("class", "images"),
            rows[:count],
            worth=lambda row: float(str(row[1])),
            which="with the fewest images",
            all_in="dataset.json",
            total=("**all**", 9),
        )

    assert made(100) == table(("class", "images"), [*rows[:100], ("**all**", 9)])
    lines = made(500).splitlines()
    assert lines[0] == "The 30 of 500 classes with the fewest images; all of them: `dataset.json`."
    assert len(lines) == 2 + 2 + 30 + 1
    assert lines[4] == "| class 0 | 0 |"
    assert lines[5] == "| class 143 | 1 |"
    assert lines[-1] == "| **all** | 9 |"
