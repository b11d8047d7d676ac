"""The result of every source: a list of images, each read when it is asked for, in order."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from graftline.compute import Arrays, map_chunks, refuse_unseen
from graftline.core.errors import DataError
from graftline.core.records import Split
from graftline.data.decoding import collected_warnings, content_hash, decode, named, read_seen
from graftline.data.seen import UNREAD, SeenFiles, Stamp
from graftline.data.shards import FILE, RAW
from graftline.data.white_levels import NOTHING_KNOWN, Survey, WhiteRule

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

    def __call__(
        self, survey: Survey | None = None, seen: SeenFiles | None = None
    ) -> Iterator[SourceSample | Broken]:
        """One after the other."""


@dataclass(frozen=True)
class Catalog:
    """A source's images.

    Args:
        total: How many there are.
        counts: How many have each label.
        examples: Each label's first image, by name.
        given_splits: The splits that the source itself has.
        samples: Reads the images, in the source's order; the survey tells what is white in those of
            more than 8 bits, and sees what they hold; ``seen`` takes down what the files were like.
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
        samples=lambda survey=None, seen=None: (
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
        samples=lambda survey=None, seen=None: _file_samples(
            files, max_px, str(root), survey, seen
        ),
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
    files: Sequence[ImageFile],
    max_px: int,
    root: str,
    survey: Survey | None,
    seen: SeenFiles | None,
) -> Iterator[SourceSample | Broken]:
    work = Reading(max_px, root, survey is not None, survey.level if survey else None)
    here = partial(_read_all, work, [])
    for batch, arrays in map_chunks("images", work, _batches(files), here=here):
        told = json.loads(arrays["told"].tobytes())
        if survey is not None:
            survey.add(told["white"])
        for name, text in told["warned"]:
            # Heard by another process.
            with named(name):
                warnings.warn(text, stacklevel=2)
        if seen is not None:
            for at, stamp in enumerate(arrays["stamps"].tolist()):
                digest = arrays["bytes"][at]
                # What is broken but was read has a digest all the same.
                seen.add(stamp, digest, None if digest else told["broken"][str(at)])
        yield from _samples(batch, arrays, told["broken"])


def _samples(
    batch: list[ImageFile], arrays: Arrays, broken: Mapping[str, str]
) -> Iterator[SourceSample | Broken]:
    payload, at = arrays["payload"].data, 0
    facts = zip(batch, arrays["shapes"].tolist(), arrays["lengths"].tolist(), strict=True)
    for position, (file, (height, width, channels), length) in enumerate(facts):
        if (reason := broken.get(str(position))) is not None:
            yield Broken(file.name, file.label, reason)
            continue
        data, at = payload[at : at + length], at + length
        digest = arrays["sha256"][position].decode()
        yield SourceSample(
            file.name, file.label, file.split, FILE, data, digest, height, width, channels
        )


@dataclass(frozen=True)
class Reading:
    """Reads and decodes image files, in whichever process.

    Args:
        max_px: Images of more pixels are not decoded.
        root: The source's folder; no file beyond it is read.
        surveys: Whether what images of more than 8 bits hold is taken down.
        level: ``data.white_level``, for the survey.
    """

    max_px: int
    root: str
    surveys: bool
    level: float | None

    @contextmanager
    def opened(self) -> Iterator[Callable[[list[ImageFile]], Arrays]]:
        """Gives the function from files to their bytes, shapes and hashes."""
        # Every image would seem to be broken.
        refuse_unseen([Path(self.root)])
        with collected_warnings() as warned:
            yield partial(_read_all, self, warned)


def _read_all(work: Reading, warned: list[tuple[str, str]], batch: list[ImageFile]) -> Arrays:
    survey = Survey(work.level) if work.surveys else None
    white = NOTHING_KNOWN if survey is None else survey.white
    read = [_read_one(file, work, white) for file in batch]
    names = {file.name for file in batch}
    # What this process's own list has stays there.
    heard = [one for one in warned if one[0] in names]
    for one in heard:
        warned.remove(one)
    told = {
        "broken": {at: one.broken for at, one in enumerate(read) if one.broken is not None},
        "white": {} if survey is None else survey.seen,
        "warned": heard,
    }
    whole = [_NOTHING if one.broken is not None else one for one in read]
    return {
        "payload": np.frombuffer(b"".join(one.data for one in whole), np.uint8),
        "lengths": np.array([len(one.data) for one in whole], np.int64),
        "shapes": np.array([one.shape for one in whole], np.int64),
        "sha256": np.array([one.sha256.encode() for one in whole], "S64"),
        "stamps": np.array([one.stamp for one in read], np.int64),
        "bytes": np.array([one.bytes_sha256.encode() for one in read], "S64"),
        "told": np.frombuffer(json.dumps(told).encode(), np.uint8),
    }


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


class _Read(NamedTuple):
    """A file as it was read.

    Args:
        data: Its bytes.
        stamp: What tells whether it is still the same.
        bytes_sha256: Of its bytes; empty if they could not be read.
        shape: Of its pixels.
        sha256: Of its shape and pixels.
        broken: Why it cannot be used, if it cannot.
    """

    data: bytes = b""
    stamp: Stamp = UNREAD
    bytes_sha256: str = ""
    shape: tuple[int, ...] = (0, 0, 0)
    sha256: str = ""
    broken: str | None = None


_NOTHING = _Read()


def _read_one(file: ImageFile, work: Reading, white: WhiteRule) -> _Read:
    read = _NOTHING
    try:
        data, stamp = read_seen(file.path, work.max_px, work.root)
        read = _Read(stamp=stamp, bytes_sha256=hashlib.sha256(data).hexdigest())
        with named(file.name):
            pixels = decode(data, work.max_px, white=white)
    except DataError as error:
        return read._replace(broken=error.what)
    except OSError as error:
        return read._replace(broken=f"cannot be read: {error.strerror or error}")
    return read._replace(data=data, shape=pixels.shape, sha256=content_hash(pixels))
