"""Source ``manifest``: a table (CSV or Parquet) with path, label and, if wanted, split."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graftline.artifacts import Split
from graftline.errors import DataError
from graftline.sources.catalog import Catalog, ImageFile, from_files
from graftline.sources.folder import SPLIT_NAMES, inside, printable

if TYPE_CHECKING:
    import pyarrow as pa

_REQUIRED = ("path", "label")
_COLUMNS = (*_REQUIRED, "split")
_LISTED = 50
_Row = tuple[str, str, str | None]
"""Path, label, split (None where the table has no such column)."""


def catalog(root: Path, name: str, max_px: int) -> Catalog:
    """The images that the table names, in its order.

    Args:
        root: The folder that holds the table; paths are relative to it and stay inside.
        name: The table's name, ending in .csv or .parquet.
        max_px: See :func:`graftline.images.decode`.

    Raises:
        DataError: If the table cannot be read, misses a column, or has rows with an absent file, a
            path that leads out of ``root``, no label, or an unknown split; all such rows are told.
    """
    table = root / name
    if not table.is_file():
        raise DataError(
            f"there is no table {name} in {root}",
            where="data.manifest",
            allowed="the name of a .csv or .parquet file in data.path",
            fix="set data.manifest to the table's name, and data.path to its folder",
        )
    rows = _parquet_rows(table) if table.suffix == ".parquet" else _csv_rows(table)
    files: list[ImageFile] = []
    problems: list[str] = []
    # Rows are counted as an editor counts the lines of a CSV file: the header is line 1.
    for number, row in enumerate(rows, start=2):
        try:
            files.append(_image_file(root, row))
        except DataError as error:
            problems.append(f"row {number}: {error.what}")
    if problems or not files:
        raise _wrong_rows(table, problems)
    return from_files(files, max_px)


def _image_file(root: Path, row: _Row) -> ImageFile:
    path, label, split_name = row
    label = printable(label.strip())
    if not label:
        raise DataError(f"{path!r} has no label")
    split: Split | None = None
    if split_name is not None:
        split = SPLIT_NAMES.get(split_name.strip().lower())
        if split is None:
            raise DataError(
                f"{path!r} has the split {split_name!r}, not one of {', '.join(SPLIT_NAMES)}"
            )
    if not path or "\0" in path:
        raise DataError(f"{path!r} is no path")
    if Path(path).is_absolute():
        raise DataError(f"{path!r} is absolute; paths are relative to the table's folder")
    resolved = inside(root / path, root)
    try:
        there = resolved.exists()
    except OSError as error:
        raise DataError(f"{path!r} cannot be reached: {error.strerror}") from error
    if not there:
        raise DataError(f"{path!r} is not there")
    return ImageFile(str(resolved), printable(Path(path).as_posix()), label, split)


def _csv_rows(table: Path) -> Iterator[_Row]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            places = [header.index(name) for name in _found_columns(table, header)]
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"line {reader.line_num} of {table.name} has {len(cells)} cells, and the "
                        f"header has {len(header)}",
                        where=str(table),
                        fix="quote cells that hold commas",
                    )
                path, label, *split = (cells[place] for place in places)
                yield path, label, split[0] if split else None
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise _unreadable(table, error) from error


def _parquet_rows(table: Path) -> Iterator[_Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(table)
        names = _found_columns(table, file.schema_arrow.names)
        columns = file.read(columns=names)
        texts = [_texts(table, name, columns.column(name)) for name in names]
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(table, error) from error
    for path, label, *split in zip(*texts, strict=True):
        yield path, label, split[0] if split else None


def _texts(table: Path, name: str, column: pa.ChunkedArray) -> list[str]:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not is_text and not (name == "label" and pa.types.is_integer(kind)):
        allowed = "text or integers" if name == "label" else "text"
        raise DataError(
            f"column {name} of {table.name} holds {kind}", where=str(table), allowed=allowed
        )
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _found_columns(table: Path, header: Sequence[str]) -> list[str]:
    lacking = [name for name in _REQUIRED if name not in header]
    twice = [name for name in _COLUMNS if header.count(name) > 1]
    if lacking or twice:
        problem = f"misses column {' and '.join(lacking)}" if lacking else f"has {twice[0]} twice"
        raise DataError(
            f"{table.name} {problem}; its columns are: {', '.join(header) or 'none'}",
            where=str(table),
            allowed="the columns path, label and, if wanted, split",
            fix="name the columns so in the table's first row",
        )
    return [name for name in _COLUMNS if name in header]


def _unreadable(table: Path, error: Exception) -> DataError:
    return DataError(
        f"{table.name} cannot be read as a table: {error}",
        where=str(table),
        allowed="CSV in UTF-8 with a header, or Parquet, as the name's ending tells",
    )


def _wrong_rows(table: Path, problems: Sequence[str]) -> DataError:
    if not problems:
        return DataError(f"{table.name} has no rows", where=str(table))
    listed = list(problems[:_LISTED])
    if len(problems) > _LISTED:
        listed.append(f"... and {len(problems) - _LISTED} more")
    return DataError(
        "\n  ".join([f"{len(problems)} row(s) of {table.name} cannot be used:", *listed]),
        where=str(table),
        allowed=f"paths of existing files inside {table.parent}, a label, and a split among "
        f"{', '.join(SPLIT_NAMES)} if there is such a column",
        fix="mend or remove these rows",
    )
