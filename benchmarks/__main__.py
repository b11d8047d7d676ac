"""``python -m benchmarks [PART …]``: measures side by side and writes it into the documents.

Parts: extraction, memory, mnist, run; without a name all of them, in that order.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markdown import Markdown

from benchmarks import extraction, machine, memory, orchestration, report, tutorial
from benchmarks.report import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Runs of each kind: the middle one of three is not the one that the machine disturbed.
RUNS = 3


@dataclass(frozen=True)
class Part:
    """One part: how it is measured, and how what came out is shown.

    Args:
        measure: From the command line's options to its numbers.
        tables: Of the numbers.
        remarks: On the numbers, as Markdown.
        draw: The numbers as a picture.
    """

    measure: Callable[[argparse.Namespace], dict[str, Any]]
    tables: Callable[[dict[str, Any]], list[Table]]
    remarks: Callable[[dict[str, Any]], list[str]]
    draw: Callable[[dict[str, Any]], Figure]


PARTS: dict[str, Part] = {
    "extraction": Part(
        lambda options: extraction.measure(options.sizes_px, options.rounds),
        extraction.tables,
        extraction.remarks,
        extraction.draw,
    ),
    "memory": Part(lambda options: memory.measure(), memory.tables, memory.remarks, memory.draw),
    "mnist": Part(
        lambda options: tutorial.measure(whole=options.whole),
        tutorial.tables,
        tutorial.remarks,
        tutorial.draw,
    ),
    "run": Part(
        lambda options: orchestration.measure(options.repeats),
        orchestration.tables,
        orchestration.remarks,
        orchestration.draw,
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Measures the parts that are asked for.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    console = Console()
    for name in options.parts or PARTS:
        _take(name, options, _command(arguments), console)
    return 0


def _take(name: str, options: argparse.Namespace, command: str, console: Console) -> None:
    part = PARTS[name]
    if options.show:
        record = report.numbers()[name]
    else:
        began_load = machine.load()
        record = report.keep(name, command, began_load, part.measure(options))
    tables, remarks = part.tables(record), part.remarks(record)
    for table in tables:
        table.print(console)
    for remark in remarks:
        console.print(Markdown(remark))
    report.publish(name, record, tables, remarks, part.draw(record))


def _command(arguments: Sequence[str]) -> str:
    """The call as it was typed, so that every option stands beside the numbers."""
    return f'make bench ARGS="{" ".join(arguments)}"' if arguments else "make bench"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[*PARTS, []], default=[])
    parser.add_argument(
        "--rounds", type=int, default=9, help="extraction: passes of each runner (default: 9)"
    )
    parser.add_argument(
        "--sizes-px",
        type=int,
        nargs="+",
        default=list(extraction.SIZES_PX),
        help="extraction: input sizes in pixels (default: 96 160 224)",
    )
    parser.add_argument(
        "--whole", action="store_true", help="mnist: run the tutorial's listing to its end"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=RUNS,
        help=f"run: cold and warm runs of each kind; the middle one counts (default: {RUNS})",
    )
    parser.add_argument(
        "--show", action="store_true", help="measure nothing; show and draw what was kept"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
