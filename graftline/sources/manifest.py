"""Source ``manifest``: a table (CSV or Parquet) with path, label and, if wanted, split."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graftline.artifacts import Split
from graftline.errors import DataError
from graftline.sources.catalog import Catalog, ImageFile, from_files
from graftline.sources.folder import SPLIT_NAMES, inside, printable
from graftline.sources.limits import checked_label, refuse_many

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_REQUIRED = ("path", "label")
_COLUMNS = (*_REQUIRED, "split")
_LISTED = 50
_SHOWN_CHARACTERS = 200
_MAX_PATH_CHARACTERS = 4096
_BATCH_ROWS = 4096
# A cell is at most a path; a table's own bytes, unpacked, are bounded too.
_MAX_CELL_BYTES = 1 << 16
_MAX_COLUMNS_BYTES = 2 << 30
_Row = tuple[str, str, str | None]
"""Path, label, split (None where the table has no such column)."""


def catalog(root: Path, name: str, max_px: int, max_images: int = sys.maxsize) -> Catalog:
    """The images that the table names, in its order.

    Args:
        root: The folder that holds the table; paths are relative to it and stay inside.
        name: The table's name, ending in .csv or .parquet.
        max_px: See :func:`graftline.images.decode`.
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
            allowed="the name of a .csv or .parquet file in data.path",
            fix="set data.manifest to the table's name, and data.path to its folder",
        )
    inside(table, root.resolve())
    is_parquet = table.suffix == ".parquet"
    rows = _parquet_rows(table, max_images) if is_parquet else _csv_rows(table)
    files: list[ImageFile] = []
    problems: list[str] = []
    wrong = 0
    # Rows are counted as an editor counts the lines of a CSV file: the header is line 1.
    for number, row in enumerate(rows, start=2):
        refuse_many(number - 1, max_images, table)
        try:
            files.append(_image_file(root, row))
        except DataError as error:
            wrong += 1
            if wrong <= _LISTED:
                problems.append(f"row {number}: {error.what}")
    if wrong or not files:
        raise _wrong_rows(table, problems, wrong)
    return from_files(files, max_px, root.resolve())


def _image_file(root: Path, row: _Row) -> ImageFile:
    path, label, split_name = row
    shown = _shown(path)
    label = printable(checked_label(label.strip(), shown))
    if not label:
        raise DataError(f"{shown} has no label")
    split: Split | None = None
    if split_name is not None:
        split = SPLIT_NAMES.get(split_name.strip().lower())
        if split is None:
            raise DataError(
                f"{shown} has the split {_shown(split_name)}, not one of {', '.join(SPLIT_NAMES)}"
            )
    resolved = named_file(root, path)
    return ImageFile(str(resolved), printable(Path(path).as_posix()), label, split)


def named_file(root: Path, path: str) -> Path:
    """The file that a row of a table names, with its links followed; rows are not trusted.

    Args:
        root: The table's folder, with its links followed.
        path: What the row says.

    Raises:
        DataError: If it is no relative path to something that is there, inside ``root``.
    """
    if not path or "\0" in path or len(path) > _MAX_PATH_CHARACTERS:
        raise DataError(f"{_shown(path)} is no path")
    if Path(path).is_absolute():
        raise DataError(f"{_shown(path)} is absolute; paths are relative to the table's folder")
    try:
        resolved = inside(root / path, root)
        there = resolved.exists()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{_shown(path)} cannot be reached: {reason}") from error
    if not there:
        raise DataError(f"{_shown(path)} is not there")
    return resolved


def named_paths(table: Path) -> Iterator[str]:
    """The column ``path`` of a table whose other columns do not matter, row by row.

    Raises:
        DataError: If it cannot be read as a table, or has no such column.
    """
    read = _parquet_cells if table.suffix == ".parquet" else _csv_cells
    for (path,) in read(table, ("path",), ()):
        yield path


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= _SHOWN_CHARACTERS else f"{cell[:_SHOWN_CHARACTERS]}…")


def _csv_rows(table: Path) -> Iterator[_Row]:
    for path, label, *split in _csv_cells(table, _REQUIRED, _COLUMNS):
        yield path, label, split[0] if split else None


def _csv_cells(
    table: Path, required: Sequence[str], known: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            places = [header.index(name) for name in _found_columns(table, header, required, known)]
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
                yield tuple(cells[place] for place in places)
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise _unreadable(table, error) from error


def _parquet_rows(table: Path, max_images: int) -> Iterator[_Row]:
    for path, label, *split in _parquet_cells(table, _REQUIRED, _COLUMNS, max_images):
        yield path, label, split[0] if split else None


def _parquet_cells(
    table: Path,
    required: Sequence[str],
    known: Sequence[str],
    max_rows: int = sys.maxsize,
) -> Iterator[tuple[str, ...]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # A value that a thousand rows share stands in the file once, and must not unfold in memory.
        names = _found_columns(table, pq.read_schema(table).names, required, known)
        with pq.ParquetFile(table, read_dictionary=names) as file:
            refuse_many(file.metadata.num_rows, max_rows, table)
            _refuse_large(table, file, names)
            for batch in file.iter_batches(_BATCH_ROWS, columns=names):
                texts = [_texts(table, name, batch.column(name)) for name in names]
                yield from zip(*texts, strict=True)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise _unreadable(table, error) from error


def _refuse_large(table: Path, file: pq.ParquetFile, names: Sequence[str]) -> None:
    groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
    columns = [group.column(at) for group in groups for at in range(group.num_columns)]
    size_bytes = sum(
        column.total_uncompressed_size for column in columns if column.path_in_schema in names
    )
    if size_bytes > _MAX_COLUMNS_BYTES:
        raise DataError(
            f"the columns of {table.name} unpack to {size_bytes} bytes",
            where=str(table),
            allowed=f"at most {_MAX_COLUMNS_BYTES} bytes",
        )


def _texts(table: Path, name: str, column: pa.Array) -> list[str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    values = column.dictionary if pa.types.is_dictionary(column.type) else column
    kind = values.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not is_text and not (name == "label" and pa.types.is_integer(kind)):
        allowed = "text or integers" if name == "label" else "text"
        raise DataError(
            f"column {name} of {table.name} holds {kind}", where=str(table), allowed=allowed
        )
    longest = pc.max(pc.binary_length(values)).as_py() if is_text else 0
    if longest and longest > _MAX_CELL_BYTES:
        raise DataError(
            f"column {name} of {table.name} holds a text of {longest} bytes",
            where=str(table),
            allowed=f"at most {_MAX_CELL_BYTES} bytes",
        )
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _found_columns(
    table: Path, header: Sequence[str], required: Sequence[str], known: Sequence[str]
) -> list[str]:
    """Those of the columns that are there, the required ones first."""
    columns = list(dict.fromkeys((*required, *known)))
    lacking = [name for name in required if name not in header]
    twice = [name for name in columns if header.count(name) > 1]
    if lacking or twice:
        problem = f"misses column {' and '.join(lacking)}" if lacking else f"has {twice[0]} twice"
        raise DataError(
            f"{table.name} {problem}; its columns are: {', '.join(header) or 'none'}",
            where=str(table),
            allowed=f"the columns {_enumerated(required, known)}",
            fix="name the columns so in the table's first row",
        )
    return [name for name in columns if name in header]


def _enumerated(required: Sequence[str], known: Sequence[str]) -> str:
    wanted = [name for name in known if name not in required]
    return ", ".join(required) + (f" and, if wanted, {', '.join(wanted)}" if wanted else "")


def _unreadable(table: Path, error: Exception) -> DataError:
    return DataError(
        f"{table.name} cannot be read as a table: {error}",
        where=str(table),
        allowed="CSV in UTF-8 with a header, or Parquet, as the name's ending tells",
    )


def _wrong_rows(table: Path, problems: Sequence[str], count: int) -> DataError:
    if not problems:
        return DataError(f"{table.name} has no rows", where=str(table))
    listed = list(problems)
    if count > len(problems):
        listed.append(f"... and {count - len(problems)} more")
    return DataError(
        "\n  ".join([f"{count} row(s) of {table.name} cannot be used:", *listed]),
        where=str(table),
        allowed=f"paths of existing files inside {table.parent}, a label, and a split among "
        f"{', '.join(SPLIT_NAMES)} if there is such a column",
        fix="mend or remove these rows",
    )
