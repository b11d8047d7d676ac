"""Source ``manifest``: a table (CSV or Parquet) with path, label and, if wanted, split."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PureWindowsPath

from graftline.core.counts import counted
from graftline.core.errors import DataError
from graftline.core.params import TABLE_ENDINGS
from graftline.core.records import Split
from graftline.data.sources import tables
from graftline.data.sources.catalog import Catalog, ImageFile, from_files
from graftline.data.sources.folder import inside, printable
from graftline.data.sources.limits import checked_label
from graftline.data.sources.split_names import allowed, split_named

_COLUMNS = ("path", "label", "split")
_LISTED = 50
_SHOWN_CHARACTERS = 200
_MAX_PATH_CHARACTERS = 4096
_KEPT_FOLDERS = 64


def catalog(root: Path, name: str, max_px: int, max_images: int = sys.maxsize) -> Catalog:
    """The images that the table names, in its order.

    Args:
        root: The folder that holds the table; paths are relative to it and stay inside.
        name: The table's name, ending in .csv, .tsv or .parquet.
        max_px: See :func:`graftline.data.decoding.decode`.
        max_images: Tables of more rows are refused.

    Raises:
        DataError: If the table cannot be read, leads out of ``root``, misses a column, or has rows
            with an absent file, a path that leads out of ``root``, no label, or an unknown split;
            such rows are told, the first fifty of them at length.
    """
    table = root / name
    if not table.is_file():
        raise DataError(
            f"there is no table {name} in {root}",
            where="data.manifest",
            allowed=f"the name of a {', '.join(TABLE_ENDINGS)} file in data.path",
            fix="set data.manifest to the table's name, and data.path to its folder",
        )
    resolved = root.resolve()
    inside(table, resolved)
    files: list[ImageFile] = []
    problems: list[str] = []
    wrong = 0
    evaluations: dict[bool, str] = {}
    rows = tables.cells(table, _COLUMNS[:2], _COLUMNS, max_images, resolved)
    for number, (path, label, *split) in rows:
        try:
            files.append(_image_file(root, path, label, split[0] if split else None))
        except DataError as error:
            wrong += 1
            if wrong <= _LISTED:
                problems.append(f"row {number}: {error.what}")
        else:
            if files[-1].split == "test":
                evaluations.setdefault("eval" in split[0].lower(), split[0].strip())
    if wrong or not files:
        raise _wrong_rows(table, problems, wrong)
    if len(evaluations) > 1:
        raise DataError(
            f"the column split holds {' and '.join(map(_shown, evaluations.values()))}, which are "
            "both test",
            where=str(table),
            allowed=f"one kind of name for each split: {allowed()}",
            fix="write validation where the images are for choosing, test where they are for the "
            "last measurement",
        )
    return from_files(files, max_px, resolved)


def _image_file(root: Path, path: str, label: str, split_name: str | None) -> ImageFile:
    shown = _shown(path)
    label = printable(checked_label(label.strip(), shown))
    if not label:
        raise DataError(f"{shown} has no label")
    split: Split | None = None
    if split_name is not None:
        named = split_named(split_name)
        if named is None or named.rest:
            raise DataError(f"{shown} has the split {_shown(split_name)}, which is none")
        split = named.split
    spelled = _spelled(root, path)
    return ImageFile(str(_reached(root, spelled)), printable(spelled.as_posix()), label, split)


def named_file(root: Path, path: str) -> Path:
    """The file that a row of a table names, with its links followed; rows are not trusted.

    A path that is not there as it is written is looked for with the backslashes of Windows as
    slashes, and with its letters composed another way in Unicode, as other file systems do.

    Args:
        root: The table's folder, with its links followed.
        path: What the row says.

    Raises:
        DataError: If it is no relative path to something that is there, inside ``root``.
    """
    return _reached(root, _spelled(root, path))


def _spelled(root: Path, path: str) -> Path:
    """The path as it is spelled on the disk, relative to ``root``."""
    if not path or "\0" in path or len(path) > _MAX_PATH_CHARACTERS:
        raise DataError(f"{_shown(path)} is no path")
    as_written, windows = Path(path), PureWindowsPath(path)
    if as_written.is_absolute():
        raise DataError(f"{_shown(path)} is absolute; paths are relative to the table's folder")
    if os.path.lexists(root / as_written):
        return as_written
    if windows.drive or windows.root:
        raise DataError(
            f"{_shown(path)} is absolute, and of Windows; paths are relative to the table's folder"
        )
    slashed = Path(windows.as_posix()) if "\\" in path else as_written
    return _composed(root, slashed) or slashed


def _reached(root: Path, path: Path) -> Path:
    shown = _shown(str(path))
    try:
        resolved = inside(root / path, root)
        there = resolved.exists()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{shown} cannot be reached: {reason}") from error
    if not there:
        raise DataError(f"{shown} is not there")
    return resolved


def _composed(root: Path, path: Path) -> Path | None:
    """The path that is the same but for the normalisation of its names; None if there is none."""
    if str(path).isascii() or ".." in path.parts:
        return None
    here = Path()
    for part in path.parts:
        if os.path.lexists(root / here / part):
            here /= part
            continue
        try:
            folder = root / here
            names = _names(str(folder), folder.stat().st_mtime_ns)
        except OSError:
            return None
        same = names.get(unicodedata.normalize("NFC", part), [])
        if len(same) > 1:
            raise DataError(
                f"{_shown(str(path))} may be {' or '.join(map(ascii, same))} on the disk, which "
                "differ in their normalisation alone"
            )
        if not same:
            return None
        here /= same[0]
    return here


# A folder's time of change is asked for so that what was kept is not taken for what is there.
@lru_cache(_KEPT_FOLDERS)
def _names(folder: str, _changed_ns: int) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name in os.listdir(folder):
        names.setdefault(unicodedata.normalize("NFC", name), []).append(name)
    return names


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= _SHOWN_CHARACTERS else f"{cell[:_SHOWN_CHARACTERS]}…")


def _wrong_rows(table: Path, problems: Sequence[str], count: int) -> DataError:
    if not problems:
        return DataError(f"{table.name} has no rows", where=str(table))
    listed = list(problems)
    if count > len(problems):
        listed.append(f"... and {count - len(problems)} more")
    return DataError(
        "\n  ".join([f"{counted(count, 'row')} of {table.name} cannot be used:", *listed]),
        where=str(table),
        allowed=f"paths of existing files inside {table.parent}, a label, and a split if there "
        f"is such a column: {allowed()}",
        fix="mend or remove these rows",
    )
