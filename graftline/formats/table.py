"""The table of exported models: one row per format, below the original."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graftline.core.markdown import table
from graftline.core.records import Exports
from graftline.core.workspace import LITERT_FILE
from graftline.formats.speeds import ORIGINAL, FormatSpeed, FormatSpeeds

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("format", "file", "size", "accuracy", "same label", "largest drop of a class")
SPEED_COLUMNS = ("images/s", "load")
NOTHING = "Nothing is exported: `export.formats` is empty."
_MB = 1e6


def columns(speeds: FormatSpeeds | None) -> tuple[str, ...]:
    """The headings; with speeds two more."""
    return (*COLUMNS, *SPEED_COLUMNS) if speeds else COLUMNS


def rows(exports: Exports, speeds: FormatSpeeds | None = None) -> list[list[str]]:
    """The cells; the original comes first.

    Args:
        exports: What was exported.
        speeds: How fast it was on this machine, where that is known.
    """
    original = exports.original
    if original is None:
        return []
    found = [
        [
            ORIGINAL,
            LITERT_FILE,
            _megabytes(original.size_bytes),
            f"{original.accuracy:.2%}",
            "",
            "",
            *_speed(ORIGINAL, speeds),
        ]
    ]
    for one in exports.exported:
        drop = f"{one.largest_drop:.2%}"
        found.append(
            [
                one.format,
                one.path,
                _megabytes(one.size_bytes),
                f"{one.accuracy:.2%}",
                f"{one.agreement:.2%}",
                f"{drop} ({one.largest_drop_class})" if one.largest_drop_class else drop,
                *_speed(one.format, speeds),
            ]
        )
    return found


def caption(exports: Exports, speeds: FormatSpeeds | None = None) -> str:
    """What the figures are about, in a sentence or two."""
    if exports.original is None:
        return NOTHING
    text = (
        f"On all {exports.original.test_images:,} test images. Same label: as from the original, "
        "models/trained/model.tflite. Drop: of a class's recall below the original's."
    )
    if speeds:
        text += (
            f" Images/s: on {speeds.cores} cores of this machine, once. Load: opening the file "
            "and answering one image."
        )
        onnx = speeds.measured.get("onnx")
        if onnx and onnx.answered_by:
            text += f" The ONNX file was run by {onnx.answered_by}."
    return text


def markdown(exports: Exports, speeds: FormatSpeeds | None = None) -> str:
    """The table with its caption, as Markdown."""
    if exports.original is None:
        return f"{NOTHING}\n"
    head = columns(speeds)
    made = table(head, rows(exports, speeds), "ll" + "r" * (len(head) - 2))
    return f"{made}\n\n{caption(exports, speeds)}\n"


def terminal_table(exports: Exports, speeds: FormatSpeeds | None = None) -> Table:
    """The table for a terminal of 80 columns, without the files' names."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    shown = Table(
        caption=escape(caption(exports, speeds)),
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
    )
    for name in _shown(columns(speeds)):
        last = name == COLUMNS[-1]
        shown.add_column(
            "largest drop" if last else name,
            justify="left" if name == COLUMNS[0] else "right",
            overflow="fold" if last else "ellipsis",
            no_wrap=not last,
        )
    for row in rows(exports, speeds):
        shown.add_row(*map(escape, _shown(row)))
    return shown


def _shown(cells: Sequence[str]) -> Sequence[str]:
    at = COLUMNS.index("file")
    return [*cells[:at], *cells[at + 1 :]]


def _speed(name: str, speeds: FormatSpeeds | None) -> Sequence[str]:
    if speeds is None:
        return ()
    speed: FormatSpeed | None = speeds.measured.get(name)
    if speed is None:
        return ("", "")
    return (f"{speed.images_per_second:,.0f}", f"{speed.load_s:.2f} s")


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / _MB:.2f} MB"
