"""Tables of text: CSV as people and their programs write it, and Parquet; row by row, not trusted.

A CSV file's cells are parted by commas, semicolons, tabs or bars: by whichever gives the header the
columns that are asked for, or as a first line ``sep=;`` says, which Excel writes and reads. Its
text is UTF-8, or UTF-16 as Excel's "Unicode text" has it.
"""

from __future__ import annotations

import codecs
import csv
import shlex
import sys
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING

from graftline.core.errors import DataError
from graftline.core.params import TABLE_ENDINGS
from graftline.data.opening import opened_source
from graftline.data.sources.limits import refuse_many

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_DELIMITERS = ",;\t|"
_BATCH_ROWS = 4096
# A cell is at most a path; a table's own bytes, unpacked, are bounded too.
_MAX_CELL_BYTES = 1 << 16
_MAX_COLUMNS_BYTES = 2 << 30
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def is_table(name: str) -> bool:
    """Whether a file is a table, by its name's ending."""
    return name.lower().endswith(TABLE_ENDINGS)


def cells(
    table: Path,
    required: Sequence[str],
    known: Sequence[str] = (),
    max_rows: int = sys.maxsize,
    within: Path | None = None,
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The cells of some columns, row by row.

    Args:
        table: A file of which :func:`is_table` is true.
        required: Columns that must be there.
        known: Columns that are given too if they are there.
        max_rows: Tables of more rows are refused.
        within: See :func:`graftline.data.opening.open_file`.

    Yields:
        The row's number, as an editor counts lines (the header is line 1), and its cells: those of
        the required columns, then of the known ones that are there.

    Raises:
        DataError: If it cannot be read as a table, misses a column, or has too many rows.
    """
    try:
        with opened_source(table, within) as file:
            if table.name.lower().endswith(".parquet"):
                rows = _parquet_cells(file, table, required, known, max_rows)
                yield from enumerate(rows, start=2)
            else:
                yield from _csv_cells(file, table, required, known, max_rows)
    except OSError as error:
        raise _unreadable(table, error) from error


def _csv_cells(
    stream: IO[bytes], table: Path, required: Sequence[str], known: Sequence[str], max_rows: int
) -> Iterator[tuple[int, tuple[str, ...]]]:
    try:
        with TextIOWrapper(stream, encoding=_encoding(stream), newline="") as file:
            delimiter, before = _delimiter(file, required)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            places = [header.index(name) for name in _found_columns(table, header, required, known)]
            count = 0
            for row in reader:
                if not any(row):
                    continue  # An empty line, or one of which a spreadsheet kept the delimiters.
                if len(row) != len(header):
                    raise DataError(
                        f"line {reader.line_num + before} of {table.name} has {len(row)} cells, "
                        f"and the header has {len(header)}",
                        where=str(table),
                        allowed=f"cells parted by {delimiter!r}, as in the header",
                        fix=f'put cells that hold a {delimiter!r} into quotes: "a{delimiter}b"',
                    )
                count += 1
                refuse_many(count, max_rows, table)
                yield reader.line_num + before, tuple(row[place] for place in places)
    except (csv.Error, UnicodeError) as error:
        raise _unreadable(table, error) from error


def _encoding(stream: IO[bytes]) -> str:
    beginning = stream.read(4)
    stream.seek(0)
    for mark, encoding in _MARKS:
        if beginning.startswith(mark):
            return encoding
    # A header begins with a letter or a quote, of which UTF-16 without a mark has one empty half.
    if len(beginning) >= 2 and 0 in beginning[:2] and beginning[:2] != b"\0\0":
        return "utf-16-be" if beginning[0] == 0 else "utf-16-le"
    return "utf-8"


def _delimiter(file: IO[str], required: Sequence[str]) -> tuple[str, int]:
    """What parts the cells, and how many lines come before the header; the file then is there."""
    start = file.tell()
    first = file.readline(_MAX_CELL_BYTES)
    told = first.strip("\r\n").strip('"')
    if told.lower().startswith("sep=") and len(told) == len("sep=;"):
        return told[-1], 1
    file.seek(start)
    fitting = [one for one in _DELIMITERS if set(required) <= set(_header(first, one))]
    # One that is right for a single column is right whatever it is; commas are what a CSV file has.
    # Where none is right, the one that parts the header into most cells shows best what is wrong.
    return (fitting or sorted(_DELIMITERS, key=lambda one: -len(_header(first, one))))[0], 0


def _header(line: str, delimiter: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]


def _parquet_cells(
    stream: IO[bytes], table: Path, required: Sequence[str], known: Sequence[str], max_rows: int
) -> Iterator[tuple[str, ...]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # A value that a thousand rows share stands in the file once, and must not unfold in memory.
        names = _found_columns(table, pq.read_schema(stream).names, required, known)
        with pq.ParquetFile(stream, read_dictionary=names) as file:
            refuse_many(file.metadata.num_rows, max_rows, table)
            _refuse_large(table, file, names)
            for batch in file.iter_batches(_BATCH_ROWS, columns=names):
                texts = [_texts(table, name, batch.column(name)) for name in names]
                yield from zip(*texts, strict=True)
    except (pa.ArrowException, ValueError, KeyError) as error:
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
    name = table.name
    if isinstance(error, UnicodeError):
        fix = (
            'save it as "CSV UTF-8", or write it anew with the encoding that it has: '
            f"iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(name)} > utf8.csv"
        )
    else:
        fix = "write it anew as CSV or Parquet"
    return DataError(
        f"{name} cannot be read as a table: {error}",
        where=str(table),
        allowed="CSV in UTF-8 or UTF-16 with a header, or Parquet, as the name's ending tells",
        fix=fix,
    )
