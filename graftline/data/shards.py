"""Packed images: flat shards of bytes beside a Parquet manifest, read by memory mapping.

A folder of packed images holds ``images-00000.bin``, ``images-00001.bin``, … and
``manifest.parquet``, one row per image:

========  ====================================================================================
column    meaning
========  ====================================================================================
sha256    of the decoded image as it was loaded (shape and pixels): the image's identity
label     index of the class
class     name of the class
split     train, validation or test
source    the image's name in its source
encoding  ``raw``: uint8 pixels, row by row; ``file``: an image file's own bytes
shard     number of the shard
offset    of the first byte in the shard
length    in bytes
height    in pixels, once decoded
width     in pixels, once decoded
channels  1 or 3, once decoded
========  ====================================================================================
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, overload

import numpy as np
import xxhash
from numpy.typing import NDArray

from graftline.core.checksums import note_written, verify
from graftline.core.errors import DataError, not_there_yet, unusable_output
from graftline.core.records import Dataset
from graftline.data.decoding import Pixels, decode
from graftline.data.npy import MappedReads, pieces
from graftline.data.white_levels import NOTHING_KNOWN, WhiteRule, rule_of

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "manifest.parquet"
RAW = "raw"
FILE = "file"
_SHARD_BYTES = 256 << 20
_KEPT_BYTES = 16 << 20
_SMALL_BYTES = 64 << 20
"""Shards of no more bytes are kept: giving pages back and taking them again costs some time."""
_PIECE_BYTES = 1 << 15
"""Small images are written, and hashed, so many bytes at once."""
_ROWS = 4096
_SHARED = ("class", "split", "encoding")
"""Columns of texts that many images share."""
_DTYPES: dict[str, type[np.object_ | np.int32 | np.int64]] = {
    "sha256": np.object_,
    "label": np.int32,
    "class": np.object_,
    "split": np.object_,
    "source": np.object_,
    "encoding": np.object_,
    "shard": np.int32,
    "offset": np.int64,
    "length": np.int64,
    "height": np.int32,
    "width": np.int32,
    "channels": np.int32,
}


class ShardWriter:
    """Writes images one after the other into shards; none straddles two.

    Args:
        folder: Where the shards go; it must exist.
        shard_bytes: How large a shard may become. A larger image gets a shard of its own.
    """

    def __init__(self, folder: Path, shard_bytes: int = _SHARD_BYTES) -> None:
        self._folder = folder
        self._shard_bytes = shard_bytes
        self._shard = -1
        self._offset = 0
        self._file: BinaryIO | None = None
        self._piece = bytearray()
        self._checksum = xxhash.xxh3_128()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def append(self, payload: bytes | memoryview) -> tuple[int, int, int]:
        """Writes one image's bytes and returns its shard, offset and length."""
        length = len(payload)
        if self._file is None or self._offset + length > self._shard_bytes:
            self._next_shard()
        offset = self._offset
        self._offset += length
        if length >= _PIECE_BYTES:
            self._flush()
            self._write(payload)
        else:
            self._piece += payload
            if len(self._piece) >= _PIECE_BYTES:
                self._flush()
        return self._shard, offset, length

    def _flush(self) -> None:
        self._write(self._piece)
        self._piece.clear()

    def _write(self, payload: bytes | bytearray | memoryview) -> None:
        self._file.write(payload)  # type: ignore[union-attr]
        self._checksum.update(payload)

    def _next_shard(self) -> None:
        self._close()
        self._shard += 1
        self._offset = 0
        self._file = (self._folder / _shard_name(self._shard)).open("wb")
        self._checksum = xxhash.xxh3_128()

    def _close(self) -> None:
        if self._file is not None:
            self._flush()
            self._file.close()
            note_written(self._folder / _shard_name(self._shard), self._checksum.hexdigest())


def write_manifest(
    folder: Path, columns: Mapping[str, Sequence[Any] | NDArray[Any] | pa.Array]
) -> None:
    """Writes ``manifest.parquet``; the same columns give the same bytes.

    Args:
        folder: Where the shards lie.
        columns: By name, each with one entry per image, in the manifest's order.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = [_arrow(columns[name], dtype) for name, dtype in _DTYPES.items()]
    table = pa.Table.from_arrays(arrays, schema=_schema())
    pq.write_table(table, folder / MANIFEST, compression="zstd", store_schema=False)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest's columns, in its order: text as Arrow's arrays, numbers as NumPy's.

    Raises:
        DamagedFileError: If its folder lists another checksum for it.
        MissingOutputError: If it is not there, or no such manifest.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    manifest = folder / MANIFEST
    verify(manifest)
    try:
        # Of texts that many images share each stands in memory once.
        with pq.ParquetFile(manifest, memory_map=True, read_dictionary=list(_SHARED)) as file:
            # Column by column: all of them at once would take twice the memory.
            columns = {
                field.name: _values(file.read(columns=[field.name]).column(0), field)
                for field in _schema()
            }
    except FileNotFoundError as error:
        raise not_there_yet(manifest) from error
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise unusable_output(manifest, f"is no manifest of packed images: {error}") from error
    give_memory_back()
    return columns


def give_memory_back() -> None:
    """Has the system get back what manifests took that nobody holds any more: Arrow keeps it."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def _values(column: pa.ChunkedArray, field: pa.Field) -> Any:
    import pyarrow as pa

    if field.name in _SHARED:
        if not pa.types.is_dictionary(column.type):
            column = column.cast(field.type).dictionary_encode()
        return _one(column.unify_dictionaries())
    found = _one(column.cast(field.type))
    return found if pa.types.is_string(field.type) else _numbers(found, _DTYPES[field.name])


def _one(column: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    # Of several chunks, combined, comes an array in some versions and chunks in others.
    if column.num_chunks == 1:
        return column.chunk(0)
    found = column.combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found


def _numbers(values: pa.Array, dtype: type[np.generic]) -> NDArray[Any]:
    if values.null_count:
        raise ValueError("an entry is missing")
    data = values.buffers()[1]
    found: NDArray[Any] = np.frombuffer(data, dtype, len(values), values.offset * dtype().itemsize)
    return found


class Texts:
    """Texts by position; each comes into being when it is asked for.

    Args:
        values: All of them.
    """

    def __init__(self, values: pa.Array) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        for at in range(0, len(self), _ROWS):
            yield from self._values.slice(at, _ROWS).to_pylist()

    @overload
    def __getitem__(self, chosen: int | np.integer) -> str: ...

    @overload
    def __getitem__(self, chosen: NDArray[np.int64]) -> NDArray[np.object_]: ...

    def __getitem__(
        self, chosen: int | np.integer | NDArray[np.int64]
    ) -> str | NDArray[np.object_]:
        if isinstance(chosen, int | np.integer):
            text: str = self._values[int(chosen)].as_py()
            return text
        found = np.empty(len(chosen), np.object_)
        for at in range(0, len(chosen), _ROWS):
            part = self._values.take(_positions(chosen[at : at + _ROWS])).to_pylist()
            found[at : at + len(part)] = part
        return found

    def tolist(self) -> list[str]:
        """All of them."""
        return list(self)

    def as_bytes(self, chosen: NDArray[np.int64]) -> NDArray[np.bytes_]:
        """Those at some positions as an array of their bytes, (n,), for sorting and comparing."""
        parts = [
            np.array(self[chosen[at : at + _ROWS]], np.bytes_)
            for at in range(0, len(chosen), _ROWS)
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.bytes_)


class PackedImages:
    """A folder of packed images, memory-mapped.

    Images that ``load`` left as files of more than 8 bits are read by the rule that lies beside
    them.

    Args:
        folder: Where they lie.
        columns: The manifest's, as :func:`read_manifest` gives them.

    Attributes:
        folder: Where they lie.
        labels: Index of each image's class, int32.
        hashes: Each image's identity: the SHA-256 of its shape and pixels when it was loaded.
        names: Each image's name in its source.
        shapes: Height, width and channels of each image (count, 3).
        uniform_shape: Height, width, channels if all images share them, else None.
    """

    def __init__(self, folder: Path, columns: Mapping[str, Any]) -> None:
        self.folder = folder
        self.labels: NDArray[np.int32] = columns["label"]
        self._splits = _Coded(columns["split"])
        self.hashes = Texts(columns["sha256"])
        self.names = Texts(columns["source"])
        self._encoded: NDArray[np.bool_] = ~_Coded(columns["encoding"]).are(RAW)
        self._shards: NDArray[np.int32] = columns["shard"]
        self._offsets: NDArray[np.int64] = columns["offset"]
        self._lengths: NDArray[np.int64] = columns["length"]
        self.shapes: NDArray[np.int32] = np.stack(
            [columns[name] for name in ("height", "width", "channels")], axis=1
        )
        self._any_encoded = bool(self._encoded.any())
        self._white = _rule_beside(folder) if self._any_encoded else NOTHING_KNOWN
        self._maps: dict[int, mmap.mmap] = {}
        self._reads = MappedReads(_KEPT_BYTES)
        self.uniform_shape = self._shared_shape(slice(None))

    @classmethod
    def open(cls, folder: Path) -> PackedImages:
        """Opens what ``load`` or ``preprocess`` wrote.

        Raises:
            MissingOutputError: If it is not there, or not whole.
        """
        return cls(folder, read_manifest(folder))

    def __len__(self) -> int:
        return len(self.labels)

    def indices(self, split: str) -> NDArray[np.int64]:
        """The positions of one split's images, in the manifest's order."""
        return np.flatnonzero(self._splits.are(split)).astype(np.int64)

    @property
    def splits(self) -> NDArray[np.object_]:
        """Each image's split, (n,)."""
        return self._splits.texts()

    def shape(self, index: int) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        height, width, channels = self.shapes[index].tolist()
        return height, width, channels

    def image(self, index: int) -> Pixels:
        """One image: height, width, channels (1 or 3).

        Raises:
            DataError: If a stored file does not decode to what it was.
        """
        stored = self._stored(index)
        shape = self.shape(index)
        if not self._encoded[index]:
            return stored.reshape(shape)
        try:
            pixels = decode(stored.tobytes(), shape[0] * shape[1], white=self._white)
            problem = f"decodes to {pixels.shape}, not to {shape}"
        except DataError as error:
            problem = error.what
        else:
            if pixels.shape == shape:
                return pixels
        raise DataError(
            f"{self.names[index]} {problem}, though it was whole when it was loaded",
            where=str(self.folder / _shard_name(int(self._shards[index]))),
            fix="run dvc repro --force load, which reads the source anew",
        )

    def batch(self, indices: NDArray[np.integer] | Sequence[int]) -> Pixels:
        """Images of one shape: count, height, width, channels.

        Raises:
            ValueError: If the images differ in shape, or if there are none and the folder's images
                have no one shape.
        """
        chosen = np.asarray(indices, np.int64)
        shape = self._shared_shape(chosen) if len(chosen) else self.uniform_shape
        if shape is None:
            raise ValueError("the images differ in shape; use batches()")
        images = np.empty((len(chosen), *shape), np.uint8)
        if self._any_encoded and self._encoded[chosen].any():
            for row, index in enumerate(chosen):
                images[row] = self.image(int(index))
            return images
        for shard in np.unique(self._shards[chosen]):
            rows = np.flatnonzero(self._shards[chosen] == shard)
            offsets = self._offsets[chosen[rows]]
            for piece in pieces(offsets, math.prod(shape), _KEPT_BYTES):
                images[rows[piece]] = self._raw(int(shard), offsets[piece], shape)
        return images

    def batches(
        self, indices: NDArray[np.integer] | Sequence[int], batch_size: int
    ) -> Iterator[tuple[NDArray[np.int64], Pixels]]:
        """Yields (positions in ``indices``, images), each batch of one shape.

        See :meth:`positions`.
        """
        chosen = np.asarray(indices, np.int64)
        for positions in self.positions(chosen, batch_size):
            yield positions, self.batch(chosen[positions])

    def positions(
        self, indices: NDArray[np.integer] | Sequence[int], batch_size: int
    ) -> Iterator[NDArray[np.int64]]:
        """Yields positions in ``indices``, for batches of one shape; no image is read.

        Where all images share a shape, the batches are consecutive runs. Every position comes
        exactly once; a batch has ``batch_size`` images or, at the end of a shape, fewer.
        """
        chosen = np.asarray(indices, np.int64)
        if self.uniform_shape is not None:
            for start in range(0, len(chosen), batch_size):
                yield np.arange(start, min(start + batch_size, len(chosen)), dtype=np.int64)
            return
        waiting: dict[tuple[int, int, int], list[int]] = {}
        for position, index in enumerate(chosen):
            shape = self.shape(int(index))
            group = waiting.setdefault(shape, [])
            group.append(position)
            if len(group) == batch_size:
                yield np.array(waiting.pop(shape), np.int64)
        for group in waiting.values():
            yield np.array(group, np.int64)

    def _shared_shape(self, rows: NDArray[np.int64] | slice) -> tuple[int, int, int] | None:
        shapes = self.shapes[rows]
        if not len(shapes) or (shapes != shapes[0]).any():
            return None
        height, width, channels = shapes[0].tolist()
        return height, width, channels

    def _stored(self, index: int) -> NDArray[np.uint8]:
        offset, length = int(self._offsets[index]), int(self._lengths[index])
        self._count(self._offsets[index : index + 1], length)
        return self._bytes(int(self._shards[index]))[offset : offset + length]

    def _raw(self, shard: int, offsets: NDArray[np.int64], shape: tuple[int, int, int]) -> Pixels:
        stored = self._bytes(shard)
        length = math.prod(shape)
        self._count(offsets, length)
        if not (offsets % length).any():
            # All begin at multiples of their length: the shard is one array of images.
            whole = len(stored) // length
            return stored[: whole * length].reshape(whole, *shape)[offsets // length]
        return np.stack([stored[at : at + length].reshape(shape) for at in offsets.tolist()])

    def _count(self, offsets: NDArray[np.int64], length: int) -> None:
        # Pages that were read count as this process's memory until they are given back. They stay
        # in the system's cache, and a process that still looks at them gets them again there.
        if self._reads.are_too_many(offsets, length):
            if sum(map(len, self._maps.values())) <= _SMALL_BYTES:
                return
            for mapped in list(self._maps.values()):
                mapped.madvise(mmap.MADV_DONTNEED)

    def _bytes(self, shard: int) -> NDArray[np.uint8]:
        if shard not in self._maps:
            path = self.folder / _shard_name(shard)
            verify(path)
            try:
                with path.open("rb") as file:
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (FileNotFoundError, ValueError) as error:
                raise unusable_output(
                    path, "is absent or empty, yet the manifest names it"
                ) from error
            here = self._shards == shard
            if len(mapped) < (self._offsets[here] + self._lengths[here]).max():
                raise unusable_output(path, "is shorter than the manifest tells")
            self._maps[shard] = mapped
        return np.frombuffer(self._maps[shard], np.uint8)


def _rule_beside(folder: Path) -> WhiteRule:
    dataset = folder / Dataset.file_name()
    return rule_of(Dataset.read(dataset).white) if dataset.exists() else NOTHING_KNOWN


def _shard_name(shard: int) -> str:
    return f"images-{shard:05d}.bin"


class _Coded:
    """Texts of which there are few, each as a number."""

    def __init__(self, values: pa.DictionaryArray) -> None:
        self._names = np.array(values.dictionary.to_pylist(), np.object_)
        self._codes: NDArray[np.int8] = _numbers(values.indices, np.int32).astype(np.int8)

    def are(self, name: str) -> NDArray[np.bool_]:
        known = np.flatnonzero(self._names == name)
        return np.isin(self._codes, known)

    def texts(self) -> NDArray[np.object_]:
        found: NDArray[np.object_] = self._names[self._codes]
        return found


def coded(codes: NDArray[np.integer], names: Sequence[str]) -> pa.Array:
    """A manifest's column of texts of which there are few.

    Args:
        codes: The place of each image's text among the names, (n,).
        names: The texts.
    """
    import pyarrow as pa

    numbers = np.ascontiguousarray(codes, np.int32)
    indices = pa.Array.from_buffers(pa.int32(), len(numbers), [None, pa.py_buffer(numbers)])
    return pa.DictionaryArray.from_arrays(indices, _strings([name.encode() for name in names]))


def texts(joined: bytes | bytearray, ends: NDArray[np.int64], order: NDArray[np.int64]) -> pa.Array:
    """A manifest's column of texts that stand one after the other in memory.

    Args:
        joined: All of them, in UTF-8.
        ends: Where the first begins, and where each ends, (n + 1,).
        order: The positions of those that are wanted.
    """
    import pyarrow as pa

    buffers = [None, pa.py_buffer(ends), pa.py_buffer(joined)]
    stored = pa.Array.from_buffers(pa.large_string(), len(ends) - 1, buffers)
    return stored.take(_positions(order)).cast(pa.string())


# pa.array and to_numpy import pandas, which takes longer than all of this; buffers do not.
def _positions(chosen: NDArray[np.integer]) -> pa.Array:
    import pyarrow as pa

    numbers = np.ascontiguousarray(chosen, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])


def _arrow(values: Sequence[Any] | NDArray[Any] | pa.Array, dtype: type[np.generic]) -> pa.Array:
    import pyarrow as pa

    if isinstance(values, pa.Array):
        return values.cast(pa.string())
    count = len(values)
    if dtype is not np.object_:
        numbers = np.ascontiguousarray(values, dtype)
        kind = pa.int32() if dtype is np.int32 else pa.int64()
        return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(numbers)])
    if isinstance(values, np.ndarray) and values.dtype.kind == "S":
        # Of one length, as hashes are.
        ends = np.arange(count + 1, dtype=np.int64) * values.dtype.itemsize
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(values))]
        return pa.Array.from_buffers(pa.large_string(), count, buffers).cast(pa.string())
    return _strings([value.encode() for value in values])


def _strings(values: Sequence[bytes]) -> pa.Array:
    import pyarrow as pa

    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum([len(text) for text in values], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {np.object_: pa.string(), np.int32: pa.int32(), np.int64: pa.int64()}
    return pa.schema([(name, kinds[dtype]) for name, dtype in _DTYPES.items()])
