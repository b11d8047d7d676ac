"""Arrays in ``.npy`` files, written and read piece by piece in bounded memory."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from graftline.core.checksums import verify
from graftline.core.errors import unusable_output

_KEPT_BYTES = 64 << 20
_AROUND_BYTES = 64 << 10
"""What Linux maps around a byte that is read, if the system's cache holds it."""


def narrowed(values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Values as float16 or float32; what is beyond float16's range is clipped to it.

    It would become infinite otherwise.
    """
    if np.dtype(dtype) == np.float16:
        limit = np.finfo(np.float16).max
        values = np.clip(values, -limit, limit)
    return values.astype(dtype, copy=False)


class ArrayWriter:
    """Writes rows of an array of known shape in any order.

    A memory-mapped array would count as this process's memory until the system writes it out, and
    a full disk would end the process by a signal instead of an error.

    Args:
        path: The ``.npy`` file to be written.
        dtype: Of the array.
        axes: The first axes of the array; their elements, counted through, are its rows.
        row_shape: The axes that follow, those of one row.
    """

    def __init__(
        self, path: Path, dtype: DTypeLike, axes: tuple[int, ...], row_shape: tuple[int, ...]
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.row_size = math.prod(row_shape)
        self._row_bytes = self.row_size * self.dtype.itemsize
        self._file: BinaryIO = path.open("wb")
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (*axes, *row_shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
        self._start = self._file.tell()
        self._file.truncate(self._start + math.prod(axes) * self._row_bytes)

    def put(self, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Writes values (n, ...) into these rows (n,)."""
        values = np.ascontiguousarray(values, self.dtype).reshape(len(rows), self.row_size)
        runs = np.flatnonzero(np.diff(rows) != 1) + 1
        for at, run in zip(np.split(rows, runs), np.split(values, runs), strict=True):
            if len(at):
                self._file.seek(self._start + int(at[0]) * self._row_bytes)
                self._file.write(run.data)

    def flush(self) -> None:
        """Lets a reader of the same file see what was put."""
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def mapped_bytes(starts: NDArray[np.int64], size_bytes: int) -> int:
    """How much of a mapped file becomes this process's memory at most, by reading pieces of it.

    Args:
        starts: Where the pieces begin, in bytes, (n,).
        size_bytes: Of each.
    """
    if not len(starts):
        return 0
    span_bytes = int(starts.max()) - int(starts.min()) + size_bytes
    return min(len(starts) * (size_bytes + _AROUND_BYTES), span_bytes + _AROUND_BYTES)


def pieces(
    starts: NDArray[np.int64], size_bytes: int, most_bytes: int
) -> Iterator[NDArray[np.int64]]:
    """Yields positions in ``starts``, so that reading them maps about so many bytes at most.

    Args:
        starts: Where the pieces of a mapped file begin that are to be read, in bytes, (n,).
        size_bytes: Of each.
        most_bytes: A single one may take more.
    """
    if mapped_bytes(starts, size_bytes) <= most_bytes:
        yield np.arange(len(starts))
        return
    # In the file's order no page is mapped by two of them.
    order = np.argsort(starts, kind="stable")
    count = max(1, most_bytes // (size_bytes + _AROUND_BYTES))
    for at in range(0, len(order), count):
        yield order[at : at + count]


class MappedReads:
    """Counts how much of mapped files has become this process's memory by reading them.

    Args:
        most_bytes: So much may be kept.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._read_bytes = most_bytes, 0

    def are_too_many(self, starts: NDArray[np.int64], size_bytes: int) -> bool:
        """Counts pieces to be read, of one file; whether all read before is to be given back."""
        coming_bytes = mapped_bytes(starts, size_bytes)
        self._read_bytes += coming_bytes
        if self._read_bytes <= self._most_bytes:
            return False
        self._read_bytes = coming_bytes
        return True


class ArrayReader:
    """A memory-mapped array, which gives back the pages that it has read now and then.

    Args:
        path: The ``.npy`` file.

    Raises:
        DamagedFileError: If its folder lists another checksum for it.
        MissingOutputError: If the file is absent or no such array.
    """

    def __init__(self, path: Path) -> None:
        verify(path)
        try:
            self.array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (EOFError, OSError, ValueError) as error:
            raise unusable_output(path, f"is absent or no array: {error}") from error
        self._reads = MappedReads(_KEPT_BYTES)

    def read(self, rows: NDArray[np.int64], view: int | None = None) -> NDArray[Any]:
        """A copy of some rows (n, ...), of one view if the array's first axis is that of views."""
        source = self.array if view is None else self.array[view]
        row_bytes = math.prod(source.shape[1:]) * source.itemsize
        starts = rows * row_bytes
        parts = list(pieces(starts, row_bytes, _KEPT_BYTES))
        if len(parts) == 1:
            self._count(starts, row_bytes)
            return np.asarray(source[rows])
        values: NDArray[Any] = np.empty((len(rows), *source.shape[1:]), source.dtype)
        for part in parts:
            self._count(starts[part], row_bytes)
            values[part] = source[rows[part]]
        return values

    def _count(self, starts: NDArray[np.int64], row_bytes: int) -> None:
        mapped: Any = self.array.base
        if self._reads.are_too_many(starts, row_bytes) and isinstance(mapped, mmap.mmap):
            # They stay in the system's cache, but count as this process's memory no more.
            mapped.madvise(mmap.MADV_DONTNEED)
