"""What measurements leave: tables for the terminal and the documents, and the numbers themselves.

``docs/performance.json`` holds the numbers of each part, ``docs/performance.md`` shows them between
two marks per part, and ``docs/images/performance-<part>.png`` is drawn from them.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks import machine
from graftline.core.files import write_text
from graftline.core.markdown import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERS = Path("docs/performance.json")
DOCUMENT = Path("docs/performance.md")
PICTURES = Path("docs/images")


@dataclass(frozen=True)
class Table:
    """One table; every column but the first holds numbers.

    Args:
        title: What it shows.
        columns: Their heads.
        rows: As texts.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def print(self, console: Console) -> None:
        """Shows it in the terminal."""
        shown = RichTable(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            shown.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            shown.add_row(*row)
        console.print(shown)

    def markdown(self) -> str:
        """The same for a document."""
        return f"{self.title}:\n\n{table(self.columns, self.rows)}"


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing: their median, and between what they lie."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int) -> str:
        """As in ``1.50 (1.20 to 1.70)``."""
        shown = (f"{value:.{digits}f}" for value in (self.median, self.lowest, self.highest))
        return "{} ({} to {})".format(*shown)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Measurement by measurement, since what both met in one round cancels out."""
    return [a / b for a, b in zip(above, below, strict=True)]


def keep(part: str, command: str, began_load: float, results: dict[str, Any]) -> dict[str, Any]:
    """Puts one part's numbers into ``docs/performance.json``, and returns them with their setting.

    Args:
        part: Its name.
        command: What was typed.
        began_load: The load when it began.
        results: Its numbers.
    """
    record = {
        "command": command,
        "machine": machine.description(),
        "load_before": began_load,
        **results,
    }
    kept = numbers()
    kept[part] = record
    write_text(NUMBERS, json.dumps(dict(sorted(kept.items())), indent=2) + "\n")
    return record


def numbers() -> dict[str, Any]:
    """All parts' numbers, as they were kept."""
    if not NUMBERS.is_file():
        return {}
    kept: dict[str, Any] = json.loads(NUMBERS.read_text(encoding="utf-8"))
    return kept


def block(record: dict[str, Any], tables: Sequence[Table], remarks: Sequence[str]) -> str:
    """One part as it stands in the document: tables, remarks, command, machine."""
    setting = (
        f"`{record['command']}`, on {machine.sentence(record['machine'])}; "
        f"load before it {record['load_before']:g}."
    )
    return "\n\n".join([*(table.markdown() for table in tables), *remarks, setting])


def replaced(document: str, part: str, text: str) -> str:
    """The document with another text between the marks of a part.

    Raises:
        ValueError: If it has no such marks.
    """
    begin, end = f"<!-- bench: {part} -->", f"<!-- end: {part} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(document):
        raise ValueError(f"{DOCUMENT} has no place for {part}: {begin} … {end}")
    return pattern.sub(lambda _: f"{begin}\n{text}\n{end}", document)


def publish(
    part: str,
    record: dict[str, Any],
    tables: Sequence[Table],
    remarks: Sequence[str],
    figure: Figure,
) -> None:
    """Puts one part's tables, remarks and picture into the documents."""
    from graftline.core.files import replacing_file
    from graftline.evaluation.style import save

    text = replaced(DOCUMENT.read_text(encoding="utf-8"), part, block(record, tables, remarks))
    write_text(DOCUMENT, text)
    with replacing_file(PICTURES / f"performance-{part}.png") as temporary:
        save(figure, temporary)
