"""Bounds on the unpacked size of a source; they hold before anything is unpacked."""

from __future__ import annotations

import shutil
from pathlib import Path

from graftline.core.errors import DataError, StorageFullError

MAX_LABEL_CHARACTERS = 255
"""As long as the name of a folder may be."""
# Blank images shrink a thousandfold and are small all the same; real ones a few times.
_SUSPECT_RATIO = 200
_SUSPECT_BYTES = 1 << 30


def refuse_bomb(file: Path, packed_bytes: int, unpacked_bytes: int, fix: str) -> None:
    """Refuses a file that unpacks to far more than real images do.

    Raises:
        DataError: If it unpacks to more than 1 GiB and more than 200 times its size.
    """
    if unpacked_bytes > _SUSPECT_BYTES and unpacked_bytes > _SUSPECT_RATIO * max(1, packed_bytes):
        raise DataError(
            f"{file.name} unpacks from {packed_bytes} to {unpacked_bytes} bytes, as decompression "
            "bombs do",
            where=str(file),
            allowed=f"above {_SUSPECT_BYTES} bytes, at most {_SUSPECT_RATIO} times the packed size",
            fix=fix,
        )


def refuse_overfull(file: Path, unpacked_bytes: int, target: Path) -> None:
    """Refuses a file for which a disk has no room.

    Raises:
        StorageFullError: If it unpacks to more than is free where ``target`` lies.
    """
    free = shutil.disk_usage(target).free
    if unpacked_bytes > free:
        raise StorageFullError(
            f"{file.name} unpacks to {unpacked_bytes} bytes, and {free} are free on the disk",
            where=str(target),
            fix="free some space and run again; the earlier output is untouched",
        )


def refuse_many(count: int, max_images: int, where: Path) -> None:
    """Refuses a source of more images than asked for.

    Raises:
        DataError: If ``count`` is above ``max_images``.
    """
    if count > max_images:
        raise DataError(
            f"{where.name} tells of {count} images, more than {max_images} (data.max_images)",
            where=str(where),
            allowed=f"at most {max_images} images",
            fix="set data.max_images higher if they are meant; each takes about 1 kB of memory",
        )


def checked_label(label: str, name: str) -> str:
    """A label of reasonable length.

    Raises:
        DataError: If it is longer than 255 characters.
    """
    if len(label) > MAX_LABEL_CHARACTERS:
        raise DataError(
            f"the label of {name} has {len(label)} characters, more than {MAX_LABEL_CHARACTERS}"
        )
    return label
