"""The result of every source: a list of images, each read when it is asked for, in order."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from graftline.core.errors import DataError
from graftline.core.parallel import ordered_map
from graftline.core.records import Split
from graftline.data.decoding import content_hash, decode, named, read_file
from graftline.data.shards import FILE, RAW
from graftline.data.white_levels import NOTHING_KNOWN, WhiteRule

_BATCH_FILES = 64
_BATCH_BYTES = 4 << 20


class SourceSample(NamedTuple):
    """One readable image."""

    name: str
    label: str
    split: Split | None
    encoding: str
    payload: bytes | memoryview
    sha256: str
    height: int
    width: int
    channels: int


class Broken(NamedTuple):
    """One image that cannot be used, and why."""

    name: str
    label: str
    reason: str


class ImageFile(NamedTuple):
    """One image file of a source."""

    path: str
    name: str
    label: str
    split: Split | None


@dataclass(frozen=True)
class ImageArray:
    """Images of one shape that come as pixels.

    Args:
        name: What each image's name starts with.
        split: The split that the source puts them in, if it does.
        labels: One per image.
        pieces: Gives the images in order, in arrays (count, height, width, channels).
    """

    name: str
    split: Split | None
    labels: Sequence[str]
    pieces: Callable[[], Iterable[NDArray[np.uint8]]]


class Samples(Protocol):
    """Reads a source's images."""

    def __call__(self, white: WhiteRule = NOTHING_KNOWN) -> Iterator[SourceSample | Broken]:
        """One after the other."""


@dataclass(frozen=True)
class Catalog:
    """A source's images.

    Args:
        total: How many there are.
        counts: How many have each label.
        examples: Each label's first image, by name.
        given_splits: The splits that the source itself has.
        samples: Reads the images, in the source's order; the rule tells what is white in those of
            more than 8 bits.
        files: The images' files, where each has its own.
    """

    total: int
    counts: Mapping[str, int]
    examples: Mapping[str, str]
    given_splits: frozenset[Split]
    samples: Samples
    files: Sequence[ImageFile] = ()

    @property
    def labels(self) -> frozenset[str]:
        """Every label that occurs."""
        return frozenset(self.counts)


def from_arrays(arrays: Sequence[ImageArray]) -> Catalog:
    """The catalog of images that come as pixels."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for array in arrays:
        first: dict[str, int] = {}
        for at, label in enumerate(array.labels):
            first.setdefault(label, at)
        for label, at in first.items():
            examples.setdefault(label, f"{array.name}[{at}]")
        counts.update(array.labels)
    return Catalog(
        total=counts.total(),
        counts=counts,
        examples=examples,
        given_splits=frozenset(array.split for array in arrays if array.split is not None),
        # Pixels of 8 bits need no rule.
        samples=lambda white=NOTHING_KNOWN: (
            sample for array in arrays for sample in _array_samples(array)
        ),
    )


def from_files(files: Sequence[ImageFile], max_px: int, root: Path) -> Catalog:
    """The catalog of image files, which lie in ``root``, its links followed."""
    return Catalog(
        total=len(files),
        counts=Counter(file.label for file in files),
        # The first of each label is the last to be put in.
        examples={file.label: file.name for file in reversed(files)},
        given_splits=frozenset(file.split for file in files if file.split is not None),
        samples=lambda white=NOTHING_KNOWN: _file_samples(files, max_px, str(root), white),
        files=files,
    )


def _array_samples(array: ImageArray) -> Iterator[SourceSample]:
    position = 0
    for piece in array.pieces():
        height, width, channels = piece.shape[1:]
        prefix = hashlib.sha256(f"{height}x{width}x{channels}:".encode())
        for pixels in np.ascontiguousarray(piece).reshape(len(piece), -1):
            digest = prefix.copy()
            digest.update(pixels.data)
            yield SourceSample(
                f"{array.name}[{position}]",
                array.labels[position],
                array.split,
                RAW,
                pixels.data,
                digest.hexdigest(),
                height,
                width,
                channels,
            )
            position += 1


def _file_samples(
    files: Sequence[ImageFile], max_px: int, root: str, white: WhiteRule
) -> Iterator[SourceSample | Broken]:
    def read_all(batch: list[ImageFile]) -> list[SourceSample | Broken]:
        return [_file_sample(file, max_px, root, white) for file in batch]

    for samples in ordered_map(read_all, _batches(files)):
        yield from samples


def _batches(files: Iterable[ImageFile]) -> Iterator[list[ImageFile]]:
    # Small files go to a thread by the dozen, large ones one by one: little overhead, and few
    # bytes under way.
    batch: list[ImageFile] = []
    size_bytes = 0
    for file in files:
        batch.append(file)
        try:
            size_bytes += os.stat(file.path).st_size
        except OSError:
            pass  # Reading it will tell.
        if len(batch) == _BATCH_FILES or size_bytes >= _BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def _file_sample(
    file: ImageFile, max_px: int, root: str, white: WhiteRule
) -> SourceSample | Broken:
    try:
        data = read_file(file.path, max_px, root)
        with named(file.name):
            pixels = decode(data, max_px, white=white)
    except DataError as error:
        return Broken(file.name, file.label, error.what)
    except OSError as error:
        return Broken(file.name, file.label, f"cannot be read: {error.strerror or error}")
    height, width, channels = pixels.shape
    return SourceSample(
        file.name, file.label, file.split, FILE, data, content_hash(pixels), height, width, channels
    )
