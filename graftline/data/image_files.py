"""Image files for prediction: found below folders, read without trust, one at a time."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from graftline.core.counts import counted
from graftline.core.errors import DataError
from graftline.core.params import MAX_IMAGE_PX, read_params
from graftline.core.workspace import Workspace
from graftline.data.decoding import Pixels, begins_like_image, decode, read_file, suffixes
from graftline.data.litter import is_litter
from graftline.data.opening import opened_file
from graftline.data.white_levels import NOTHING_KNOWN, WhiteRule

_BEGINNING_BYTES = 64
_MOST_ENDINGS = 6
FilePath = str | bytes | os.PathLike[str]


@dataclass(frozen=True)
class ReadImage:
    """What a file holds: pixels, or the reason why not."""

    pixels: Pixels | None
    """Height, width, channels (1 or 3)."""
    sha256: str | None
    """Of the file's bytes, in hexadecimal; None if they could not be read."""
    error: str | None = None


def largest_px(workspace: Workspace) -> int:
    """The limit of an image's pixels that holds everywhere: ``data.max_image_px``.

    Returns:
        What ``params.yaml`` says; the default where there is no such file, as beside a model that
        was brought along.

    Raises:
        ParamsError: If ``params.yaml`` is not valid.
    """
    if not workspace.params_file.exists():
        return MAX_IMAGE_PX
    return read_params(workspace.params_file).data.max_image_px


def read_image(
    file: FilePath, max_px: int, white: WhiteRule = NOTHING_KNOWN, within: bytes | None = None
) -> ReadImage:
    """Reads and decodes one file; whatever is wrong with it is told, and nothing is raised.

    Args:
        file: A regular file: a pipe or a device, which may never end, is refused.
        max_px: Files with more pixels (width x height) are not decoded.
        white: Tells what is white in an image of more than 8 bits: the model's rule.
        within: See :func:`graftline.data.decoding.read_file`.
    """
    try:
        folder = None if within is None else os.fsdecode(within)
        data = read_file(os.fsdecode(file), max_px, folder)
    except DataError as error:
        return ReadImage(None, None, error.what)
    except (OSError, ValueError) as error:
        return ReadImage(None, None, getattr(error, "strerror", None) or str(error))
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        return ReadImage(decode(data, max_px, white=white), sha256)
    except DataError as error:
        return ReadImage(None, sha256, error.what)


def images_below(folder: str, left_out: Counter[str] | None = None) -> Iterator[str]:
    """The image files below a folder, by name; also the links that lead nowhere or to a folder.

    A file is one if its name ends like an image's, or if it begins like one: as for training, its
    content decides. Hidden files and litter are passed over, links to folders are not entered.

    No more than the names of one branch of folders are held at once.

    Args:
        folder: Where to look.
        left_out: Counts the files that are no images, by the ending of their names.

    Raises:
        OSError: If a folder cannot be listed.
    """
    with os.scandir(folder) as listed:
        names = sorted(
            (entry.name, entry.is_dir(follow_symlinks=False))
            for entry in listed
            if not is_litter(entry.name)
        )
    for name, is_folder in names:
        path = os.path.join(folder, name)
        if is_folder:
            yield from images_below(path, left_out)
        elif _is_image(path):
            yield path
        elif left_out is not None:
            left_out[os.path.splitext(name)[1].lower() or "no ending"] += 1


def told_left_out(left_out: Counter[str]) -> str:
    """How many files were no images, in words."""
    endings = [f"{ending} {count:,}" for ending, count in left_out.most_common(_MOST_ENDINGS)]
    more = ", ..." if len(left_out) > _MOST_ENDINGS else ""
    told = counted(left_out.total(), "file is no image", "files are no images")
    return f"{told} ({', '.join(endings)}{more})"


def _is_image(path: str) -> bool:
    if not os.path.isfile(path):
        # Not a pipe, which may never say anything.
        return os.path.islink(path)
    if path.lower().endswith(suffixes()):
        return True
    try:
        with opened_file(path) as file:
            return begins_like_image(file.read(_BEGINNING_BYTES))
    except (DataError, OSError):
        return True  # Reading it will tell why it cannot be read.
