"""The list of what is to be predicted, on disk: it does not grow in memory, and it can be resumed.

Each row group of the file is one part of the predictions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from graftline.core.files import replacing_file
from graftline.inference.inputs import Input

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Listing:
    """A written list.

    Args:
        path: The Parquet file.
        count: Of its rows.
        part_rows: Rows in each part; the last may have fewer.
        digest: SHA-256 over the rows: names, sizes and times of the files.
    """

    path: Path
    count: int
    part_rows: int
    digest: str

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.count // self.part_rows)

    def first(self, part: int) -> int:
        """The number of a part's first row, from 0."""
        return part * self.part_rows

    def size(self, part: int) -> int:
        """The number of a part's rows."""
        return min(self.part_rows, self.count - self.first(part))

    def read(self, parts: Sequence[int]) -> Iterator[Input]:
        """The rows of some parts, in order."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path) as file:
            for part in parts:
                columns = file.read_row_group(part).to_pydict()
                for row in zip(*columns.values(), strict=True):
                    yield Input(*row)


def write_listing(rows: Iterable[Input], path: Path, part_rows: int) -> Listing:
    """Writes the list; the same rows give the same digest."""
    import pyarrow.parquet as pq

    digest, count = hashlib.sha256(), 0
    remaining = iter(rows)
    with replacing_file(path) as temporary, pq.ParquetWriter(temporary, _schema()) as writer:
        while part := list(islice(remaining, part_rows)):
            for row in part:
                digest.update(repr(astuple(row)).encode())
            writer.write_table(_table(part), row_group_size=part_rows)
            count += len(part)
    return Listing(path, count, part_rows, digest.hexdigest())


def _table(rows: Sequence[Input]) -> pa.Table:
    import pyarrow as pa

    columns = zip(*(astuple(row) for row in rows), strict=True)
    schema = _schema()
    arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("name", pa.string()),
            ("file", pa.binary()),
            ("error", pa.string()),
            ("size_bytes", pa.int64()),
            ("modified_ns", pa.int64()),
            ("within", pa.binary()),
        ]
    )
