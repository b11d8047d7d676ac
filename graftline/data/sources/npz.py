"""Source ``npz``: an archive of NumPy arrays, read without ever unpickling.

The arrays are unpacked into a scratch folder and memory-mapped there, so that memory does not grow
with them.
"""

from __future__ import annotations

import errno
import mmap
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.errors import DataError, StorageFullError
from graftline.core.records import SPLITS, Split
from graftline.data.opening import opened_source
from graftline.data.seen import WholeFiles
from graftline.data.sources.catalog import Catalog, ImageArray, from_arrays
from graftline.data.sources.limits import (
    MAX_LABEL_CHARACTERS,
    refuse_bomb,
    refuse_many,
    refuse_overfull,
)
from graftline.data.sources.split_names import split_named

_KEY = re.compile(
    r"(?:(?P<before>x|y|images?|imgs?|labels?)[-_. ]?)?(?P<split>[a-z0-9_. -]+?)"
    r"(?:[-_. ]?(?P<after>x|y|images?|imgs?|labels?))?",
    re.IGNORECASE,
)
_Pair = tuple[str, str]
"""The names of an array of images and of that of their labels."""
_PLAIN_KEYS = ("images", "labels")
_ALLOWED = (
    "x_train and y_train, if need be with x_val, y_val and x_test, y_test (or train_images, "
    "train_labels and so on); or images and labels: "
    "images uint8 (count, height, width[, 1 or 3]), labels integers or text (count)"
)
_PIECE_BYTES = 8 << 20


def catalog(
    file: Path,
    scratch: Path,
    max_px: int,
    max_images: int = sys.maxsize,
    whole: WholeFiles | None = None,
) -> Catalog:
    """The archive's images; integer labels become their decimal text.

    Args:
        file: The archive.
        scratch: An existing folder for the arrays.
        max_px: Arrays of larger images are refused.
        max_images: And arrays of more.
        whole: Takes down what the archive was like.

    Raises:
        DataError: If it is no archive, lacks an array, or one has the wrong type or shape; object
            arrays are refused.
        StorageFullError: If it unpacks to more than the disk has room for.
    """
    pairs, arrays = _unpacked(file, scratch, whole)
    given = len(pairs) > 1
    return from_arrays(
        [
            _image_array(file, arrays, pair, split if given else None, (max_px, max_images))
            for split, pair in pairs.items()
        ]
    )


def _unpacked(
    file: Path, scratch: Path, whole: WholeFiles | None
) -> tuple[Mapping[Split | None, _Pair], dict[str, NDArray[Any]]]:
    try:
        with (
            opened_source(file) as opened,
            nullcontext(opened) if whole is None else whole.digesting(file, opened) as read,
            zipfile.ZipFile(read) as archive,
        ):
            members = {
                info.filename.removesuffix(".npy"): info
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }
            pairs = _needed(file, members)
            keys = [key for pair in pairs.values() for key in pair]
            _refuse_bombs(file, [members[key] for key in keys], scratch)
            # The names on disk are ours: those in the archive may lead anywhere.
            return pairs, {
                key: _member(archive, members[key], scratch / f"{number}.npy")
                for number, key in enumerate(keys)
            }
    except (DataError, StorageFullError):
        raise
    # zipfile answers broken archives with many kinds of exceptions (BadZipFile, EOFError,
    # zlib.error, NotImplementedError, RuntimeError, struct.error, ...). A full disk is not one.
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(
            f"{file.name} cannot be read as an npz archive: {error or type(error).__name__}",
            where=str(file),
            allowed=_ALLOWED,
            fix="write it with numpy.savez or numpy.savez_compressed",
        ) from error


def _needed(file: Path, members: Mapping[str, zipfile.ZipInfo]) -> Mapping[Split | None, _Pair]:
    """The two arrays of each split; of None, if the images have no splits."""
    there = ", ".join(sorted(members)) or "none"

    def wrong(problem: str) -> DataError:
        return DataError(
            f"{file.name} {problem}; its arrays are: {there}", where=str(file), allowed=_ALLOWED
        )

    plain = [key for key in _PLAIN_KEYS if key in members]
    found: dict[Split, dict[str, str]] = {} if plain else {"train": {}}
    for key in members:
        if key not in _PLAIN_KEYS and (known := _split_key(key)) is not None:
            split, kind = known
            kept = found.setdefault(split, {}).setdefault(kind, key)
            if kept != key:
                raise wrong(f"has two arrays of {kind} for one split, {kept} and {key}")
    if plain and found:
        raise wrong("has two sets of arrays")
    if plain:
        if lacking := sorted(set(_PLAIN_KEYS) - set(plain)):
            raise wrong(f"lacks {lacking[0]}")
        return {None: _PLAIN_KEYS}
    if lacking := sorted(
        _like(kind, split, kinds)
        for split, kinds in found.items()
        for kind in ("images", "labels")
        if kind not in kinds
    ):
        raise wrong(f"lacks {', '.join(lacking)}")
    return {
        split: (found[split]["images"], found[split]["labels"])
        for split in SPLITS
        if split in found
    }


def _split_key(key: str) -> tuple[Split, str] | None:
    """The split and the kind (images, labels) that an array's name tells of."""
    match = _KEY.fullmatch(key)
    kind = (match["before"] or match["after"]) if match else None
    if match is None or kind is None or (match["before"] and match["after"]):
        return None
    named = split_named(match["split"])
    if named is None or named.rest:
        return None
    return named.split, "labels" if kind[0].lower() in "yl" else "images"


def _like(kind: str, split: Split, kinds: Mapping[str, str]) -> str:
    """What an absent array would be called, as its companion is."""
    letter, other = ("x", "y") if kind == "images" else ("y", "x")
    for companion in kinds.values():
        if companion[0].lower() == other:
            return letter + companion[1:]
        return f"the {kind} for {companion}"
    return f"{letter}_{'val' if split == 'validation' else split}"


def _refuse_bombs(file: Path, members: list[zipfile.ZipInfo], scratch: Path) -> None:
    packed = sum(info.compress_size for info in members)
    unpacked = sum(info.file_size for info in members)
    fix = "if the images are meant, write them with numpy.savez, uncompressed"
    refuse_bomb(file, packed, unpacked, fix)
    refuse_overfull(file, unpacked, scratch)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> NDArray[Any]:
    with archive.open(info) as packed, target.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
    with target.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            _, _, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            _, _, dtype = np.lib.format.read_array_header_2_0(stream)
    if dtype.hasobject:
        raise DataError(
            f"array {info.filename.removesuffix('.npy')} in {Path(archive.filename or '').name} "
            "holds Python objects, which would have to be unpickled",
            where=str(archive.filename),
            allowed=_ALLOWED,
            fix="write it again with a plain dtype, such as uint8 for images",
        )
    array: NDArray[Any] = np.lib.format.open_memmap(target, mode="r")
    return array


def _image_array(
    file: Path,
    arrays: Mapping[str, NDArray[Any]],
    keys: tuple[str, str],
    split: Split | None,
    limits: tuple[int, int],
) -> ImageArray:
    (images_key, labels_key), (max_px, max_images) = keys, limits

    def wrong(key: str, problem: str) -> DataError:
        array = arrays[key]
        return DataError(
            f"array {key} in {file.name} {problem}: {array.dtype}, shape {array.shape}",
            where=str(file),
            allowed=_ALLOWED,
        )

    images = arrays[images_key]
    if images.dtype != np.uint8:
        raise wrong(images_key, "is not uint8")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise wrong(images_key, "has not the shape of images")
    if 0 in images.shape:
        raise wrong(images_key, "is empty")
    if images.shape[1] * images.shape[2] > max_px:
        raise wrong(images_key, f"has images of more than {max_px} pixels (data.max_image_px)")
    refuse_many(len(images), max_images, file)
    given = arrays[labels_key]
    if given.ndim and len(given) != len(images):
        raise wrong(labels_key, f"has {len(given)} labels for {len(images)} images")
    labels = _labels(given, lambda problem: wrong(labels_key, problem))
    return ImageArray(images_key, split, labels, lambda: _pieces(images))


def _labels(array: NDArray[Any], wrong: Callable[[str], DataError]) -> list[str]:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise wrong("has not one label per image")
    if array.dtype.kind not in "iuUS":
        raise wrong("holds neither integers nor text")
    per_character = 4 if array.dtype.kind == "U" else 1
    if array.dtype.kind in "US" and array.dtype.itemsize // per_character > MAX_LABEL_CHARACTERS:
        raise wrong(f"has room for labels of more than {MAX_LABEL_CHARACTERS} characters")
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise wrong("holds bytes that are no text in UTF-8") from error
    try:
        # One text for each class, not one for each image.
        known: dict[Any, str] = {}
        labels = [known.setdefault(label, str(label)) for label in array.tolist()]
    except ValueError as error:
        raise wrong("holds numbers that stand for no letters") from error
    if not all(label.strip() for label in labels):
        raise wrong("holds an empty label")
    return labels


def _pieces(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    if images.ndim == 3:
        images = images[..., None]
    at_once = max(1, _PIECE_BYTES // images[0].size)
    mapped = getattr(images, "_mmap", None)
    for start in range(0, len(images), at_once):
        yield np.ascontiguousarray(images[start : start + at_once])
        if mapped is not None:
            # Pages that were read would count as this process's memory, all the images' in the end.
            mapped.madvise(mmap.MADV_DONTNEED)
