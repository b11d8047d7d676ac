"""Source ``idx``: a folder with MNIST-style IDX files, gzipped or not.

The format is the one of http://yann.lecun.com/exdb/mnist/: a magic number (two zero bytes, 8 for
unsigned bytes, the number of dimensions), the dimensions as big-endian 32-bit integers, the bytes.
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from graftline.core.errors import DataError
from graftline.core.records import SPLITS, Split
from graftline.data.litter import is_litter
from graftline.data.opening import opened_source
from graftline.data.seen import WholeFiles
from graftline.data.sources.catalog import Catalog, ImageArray, from_arrays
from graftline.data.sources.folder import inside
from graftline.data.sources.limits import refuse_bomb, refuse_many
from graftline.data.sources.split_names import allowed, split_named

_MNIST: dict[str, Split] = {"train": "train", "t10k": "test"}
_KINDS = {"images": 3, "labels": 1}
_FILE = re.compile(
    r"(?P<set>.+)[-_](?P<kind>images|labels)[-.]idx(?P<dimensions>[13])-ubyte(?P<zipped>\.gz)?",
    re.IGNORECASE,
)
_Set = dict[str, Path]
"""The file of each kind, images and labels."""
_IMAGES_DIMENSIONS = 3
_LABELS_DIMENSIONS = 1
_UNSIGNED_BYTE = 8
_PIECE_BYTES = 8 << 20
_MAX_IMAGES = 100_000_000


def catalog(
    folder: Path, max_px: int, max_images: int = _MAX_IMAGES, whole: WholeFiles | None = None
) -> Catalog:
    """The images of ``train-…`` files, and of ``t10k-…`` files as the test split if there are any.

    Instead of ``t10k``, and for validation, the names of
    :mod:`graftline.data.sources.split_names` do; all sets may have further words in common, as
    EMNIST's have. Where a file stands both plain and gzipped, the plain one is read. Labels become
    their decimal text.

    Args:
        folder: That of the files.
        max_px: Files of larger images are refused.
        max_images: And files of more.
        whole: Takes down what the files were like, those of images once these have been read.

    Raises:
        DataError: If a file is absent, leads out of the folder, has another magic number, is too
            short or too long, if images and labels differ in number, or if two sets are one split.
    """
    sets = _sets(folder)
    return from_arrays(
        [
            _array(files, split if len(sets) > 1 else None, (max_px, max_images), whole)
            for split, files in sets.items()
        ]
    )


def files(folder: Path) -> list[Path]:
    """The files that :func:`catalog` would read.

    Raises:
        DataError: If one is absent.
    """
    return [file for files in _sets(folder).values() for file in files.values()]


def _sets(folder: Path) -> dict[Split, _Set]:
    """The files of each split; the training split's are there."""
    prefixes: dict[Split, set[str]] = {"train": set()}
    found: dict[tuple[str, str], list[Path]] = {}
    for file in sorted(path for path in folder.iterdir() if not is_litter(path.name)):
        match = _FILE.fullmatch(file.name)
        if match is None or not file.is_file():
            continue
        prefix, kind = match["set"], match["kind"].lower()
        split = _MNIST.get(prefix.lower()) or _split_of(prefix)
        if split is not None and int(match["dimensions"]) == _KINDS[kind]:
            prefixes.setdefault(split, set()).add(prefix)
            found.setdefault((prefix, kind), []).append(file)
    several = [names for names in prefixes.values() if len(names) > 1]
    if several:
        raise DataError(
            f"there are several sets for one split: {', '.join(sorted(several[0]))}",
            where=f"data.path: {folder}",
            allowed=f"one set for each split; {allowed()}",
            fix="set data.path to a folder that holds the files of one data set",
        )
    sets: dict[Split, _Set] = {}
    for split in SPLITS:
        for prefix in prefixes.get(split, ()) or (("train",) if split == "train" else ()):
            # The plain file comes first: its name is the shorter one.
            kept = {kind: found.get((prefix, kind), [])[:1] for kind in _KINDS}
            sets[split] = {
                kind: _required(folder, kept[kind], f"{prefix}-{kind}") for kind in _KINDS
            }
    return sets


def _split_of(prefix: str) -> Split | None:
    named = split_named(prefix)
    return named.split if named else None


def _array(
    files: _Set, split: Split | None, limits: tuple[int, int], whole: WholeFiles | None
) -> ImageArray:
    (max_px, max_images), images, labels = limits, files["images"], files["labels"]
    count, height, width = _image_dimensions(images, max_px)
    refuse_many(count, max_images, images)
    _refuse_size(images, count * height * width, _IMAGES_DIMENSIONS)
    digits = _labels(labels, max_images, whole)
    if len(digits) != count:
        raise DataError(
            f"there are {count} images but {len(digits)} labels",
            where=f"{images} and {labels}",
            fix="get both files from the same place again",
        )
    return ImageArray(
        images.name.removesuffix(".gz"),
        split,
        [str(digit) for digit in digits.tolist()],
        lambda: _pieces(images, (count, height, width), whole),
    )


def _names(stem: str) -> list[str]:
    dimensions = _IMAGES_DIMENSIONS if stem.endswith("images") else _LABELS_DIMENSIONS
    return [f"{stem}{mark}idx{dimensions}-ubyte{ending}" for ending in ("", ".gz") for mark in "-."]


def _required(folder: Path, found: Sequence[Path], stem: str) -> Path:
    if not found:
        raise DataError(
            f"there is no file of {stem} here",
            where=f"data.path: {folder}",
            allowed=" or ".join(_names(stem)),
            fix="set data.path to the folder that holds the IDX files",
        )
    inside(found[0], folder.resolve())
    return found[0]


def _image_dimensions(file: Path, max_px: int) -> tuple[int, int, int]:
    with _opened(file) as stream:
        count, height, width = _dimensions(stream, file, _IMAGES_DIMENSIONS)
    if min(count, height, width) == 0:
        raise _wrong(file, f"its header tells of {count} images of {height} x {width} pixels")
    if height * width > max_px:
        raise _wrong(
            file, f"its images have {height} x {width} pixels, more than data.max_image_px {max_px}"
        )
    return count, height, width


def _refuse_size(file: Path, data_bytes: int, dimensions: int) -> None:
    """A header's word is checked against the file's size before memory or disk is given to it."""
    size_bytes = file.stat().st_size
    if file.suffix == ".gz":
        fix = "if the images are meant, unpack the file with gunzip"
        refuse_bomb(file, size_bytes, data_bytes, fix)
        return
    there = size_bytes - 4 - 4 * dimensions
    if there != data_bytes:
        side = "short" if there < data_bytes else "long"
        raise _wrong(
            file,
            f"it is too {side}: its header tells of {data_bytes} bytes of data, and {there} are "
            "there",
        )


def _labels(file: Path, max_images: int, whole: WholeFiles | None) -> NDArray[np.uint8]:
    with _opened(file, whole) as stream:
        (count,) = _dimensions(stream, file, _LABELS_DIMENSIONS)
        refuse_many(count, max_images, file)
        _refuse_size(file, count, _LABELS_DIMENSIONS)
        data = b"".join(_exactly(stream, file, count, 1))
    return np.frombuffer(data, np.uint8)


def _pieces(
    file: Path, shape: tuple[int, int, int], whole: WholeFiles | None
) -> Iterator[NDArray[np.uint8]]:
    count, height, width = shape
    with _opened(file, whole) as stream:
        _dimensions(stream, file, _IMAGES_DIMENSIONS)
        for data in _exactly(stream, file, count, height * width):
            yield np.frombuffer(data, np.uint8).reshape(-1, height, width, 1)


def _dimensions(stream: IO[bytes], file: Path, expected: int) -> tuple[int, ...]:
    size_bytes = 4 + 4 * expected
    header = stream.read(size_bytes)
    magic = header[:4].hex()
    right = f"0000{_UNSIGNED_BYTE:02x}{expected:02x}"
    if len(header) >= 4 and magic != right:
        raise _wrong(file, f"its magic number is 0x{magic}, not 0x{right}")
    if len(header) < size_bytes:
        raise _wrong(file, f"it is too short: {len(header)} bytes, no whole header")
    dimensions: tuple[int, ...] = struct.unpack(f">{expected}I", header[4:])
    if dimensions[0] > _MAX_IMAGES:
        raise _wrong(file, f"its header tells of {dimensions[0]} entries, more than {_MAX_IMAGES}")
    return dimensions


def _exactly(stream: IO[bytes], file: Path, count: int, entry_bytes: int) -> Iterator[bytes]:
    """Reads ``count`` entries in pieces, and makes sure that nothing lacks and nothing follows."""
    at_once = max(1, _PIECE_BYTES // entry_bytes)
    for start in range(0, count, at_once):
        size_bytes = min(at_once, count - start) * entry_bytes
        data = stream.read(size_bytes)
        if len(data) < size_bytes:
            there = start * entry_bytes + len(data)
            raise _wrong(
                file,
                f"it is too short: its header tells of {count * entry_bytes} bytes of data, and "
                f"{there} are there",
            )
        yield data
    if stream.read(1):
        raise _wrong(
            file,
            f"it is too long: data follow after the {count * entry_bytes} bytes that its "
            "header tells of",
        )


@contextmanager
def _opened(file: Path, whole: WholeFiles | None = None) -> Iterator[IO[bytes]]:
    try:
        with (
            opened_source(file, file.parent.resolve()) as opened,
            nullcontext(opened) if whole is None else whole.digesting(file, opened) as plain,
        ):
            if file.suffix == ".gz":
                with gzip.open(plain) as unpacked:
                    yield cast(IO[bytes], unpacked)
            else:
                yield plain
    except (EOFError, zlib.error, OSError) as error:
        raise _wrong(file, f"it cannot be read: {error}") from error


def _wrong(file: Path, reason: str) -> DataError:
    return DataError(
        f"{file.name} is not the IDX file that it should be: {reason}",
        where=str(file),
        allowed="unsigned bytes: images with magic number 0x00000803, labels with 0x00000801",
        fix="get the file again, or set data.path to another folder",
    )
