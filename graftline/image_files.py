"""Image files for prediction: found below folders, read without trust, one at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from graftline.errors import DataError
from graftline.images import Pixels, decode, read_file
from graftline.white_levels import NOTHING_KNOWN, WhiteRule

SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
"""What is taken from a folder; a file that is named is taken whatever its name."""
MAX_IMAGE_PX = 50_000_000
FilePath = str | bytes | os.PathLike[str]


@dataclass(frozen=True)
class ReadImage:
    """What a file holds: pixels, or the reason why not."""

    pixels: Pixels | None
    """Height, width, channels (1 or 3)."""
    sha256: str | None
    """Of the file's bytes, in hexadecimal; None if they could not be read."""
    error: str | None = None


def read_image(file: FilePath, max_px: int, white: WhiteRule = NOTHING_KNOWN) -> ReadImage:
    """Reads and decodes one file; whatever is wrong with it is told, and nothing is raised.

    Args:
        file: A regular file: a pipe or a device, which may never end, is refused.
        max_px: Files with more pixels (width x height) are not decoded.
        white: Tells what is white in an image of more than 8 bits: the model's rule.
    """
    try:
        data = read_file(os.fsdecode(file), max_px)
    except DataError as error:
        return ReadImage(None, None, error.what)
    except (OSError, ValueError) as error:
        return ReadImage(None, None, getattr(error, "strerror", None) or str(error))
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        return ReadImage(decode(data, max_px, white=white), sha256)
    except DataError as error:
        return ReadImage(None, sha256, error.what)


def images_below(folder: str) -> Iterator[str]:
    """The image files below a folder, by name; folders that are links are not entered.

    No more than the names of one branch of folders are held at once.

    Raises:
        OSError: If a folder cannot be listed.
    """
    with os.scandir(folder) as listed:
        names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in listed)
    for name, is_folder in names:
        path = os.path.join(folder, name)
        if is_folder:
            yield from images_below(path)
        elif name.lower().endswith(SUFFIXES) and os.path.isfile(path):
            yield path
