"""Decoding: the bytes of an image file as uint8 pixels, the same on every machine."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from PIL import Image

from graftline.core.errors import DataError
from graftline.data.image_openers import opened
from graftline.data.opening import open_file
from graftline.data.pixels import Pixels, pixels_of
from graftline.data.seen import Stamp, stamp_of
from graftline.data.white_levels import NOTHING_KNOWN, WhiteRule

__all__ = [
    "FORMATS",
    "KNOWN",
    "Pixels",
    "begins_like_image",
    "collected_warnings",
    "content_hash",
    "decode",
    "from_base64",
    "named",
    "pixels_in",
    "read_file",
    "read_seen",
    "refuse_large",
    "suffixes",
]

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "AVIF")
"""What is read; HEIC besides, where the package pillow-heif is installed."""
KNOWN = ", ".join(FORMATS)
"""The formats, for people."""
# Of formats that Pillow may have no decoder for: they are images all the same, and said to be.
_NAMED_SUFFIXES = (".avif", ".avifs", ".heic", ".heif", ".hif")
_DATA_ADDRESS = re.compile(r"^data:[^,]{0,200};base64,")
# No format of ours needs more than 16 bytes for a pixel; the rest is for metadata.
_BYTES_PER_PX = 16
_METADATA_BYTES = 64 << 20
_thread = threading.local()


@cache
def suffixes() -> tuple[str, ...]:
    """How the names of image files end, in small letters: as Pillow has it for the formats."""
    known = Image.registered_extensions().items()
    found = (suffix for suffix, kind in known if kind in FORMATS)
    return tuple(dict.fromkeys((*found, *_NAMED_SUFFIXES)))


def begins_like_image(beginning: bytes) -> bool:
    """Whether a file of these first bytes, 64 or more if it has them, is of one of the formats."""
    Image.init()
    accepting = (Image.OPEN[kind][1] for kind in FORMATS if kind in Image.OPEN)
    return any(accepts is None or bool(accepts(beginning)) for accepts in accepting)


def decode(
    data: bytes, max_px: int, limit: str = "data.max_image_px", white: WhiteRule = NOTHING_KNOWN
) -> Pixels:
    """Decodes an image file: its first frame or page, upright, in sRGB, on white, grey or RGB.

    Grey images, also those with a palette of greys, have one channel, all others three. The
    orientation that EXIF or XMP tells is applied, an embedded ICC profile too, and transparency is
    laid over white. Values of more than 8 bits are scaled to 8; ``white`` tells by what.

    Args:
        data: The file's bytes.
        max_px: The largest allowed width x height, checked in the header, before any decoding.
        limit: What sets that, for the error.
        white: Tells what is white in an image of more than 8 bits: the rule of the data set, or of
            the model's training images.

    Returns:
        Height, width, channels (1 or 3).

    Raises:
        DataError: If the bytes are no whole image of a known format, too large a one, or such that
            its values do not tell what they mean. Its ``what`` is the reason, in words that can
            follow a file's name.
    """
    with _broken_bytes_told(data), opened(data, FORMATS, max_px, limit) as image:
        return pixels_of(image, lambda: opened(data, FORMATS, max_px, limit), white)


def pixels_in(data: bytes, max_px: int, limit: str = "data.max_image_px") -> int:
    """Width x height as the header tells, at most ``max_px``; nothing is decoded.

    Raises:
        DataError: As :func:`decode`.
    """
    with _broken_bytes_told(data), opened(data, FORMATS, max_px, limit) as image:
        return image.width * image.height


@contextmanager
def _broken_bytes_told(data: bytes) -> Iterator[None]:
    if not data:
        raise DataError("the file is empty (0 bytes)")
    try:
        yield
    except DataError:
        raise
    # PIL's decoders answer broken bytes with almost any exception (OSError, SyntaxError,
    # struct.error, KeyError, OverflowError, MemoryError, ...).
    except Exception as error:
        raise DataError(f"cannot be decoded: {error or type(error).__name__}") from error


def from_base64(text: str) -> bytes:
    """The bytes of an image file in base64, with or without line ends and a data address before it.

    Raises:
        DataError: If it is no base64.
    """
    text = _DATA_ADDRESS.sub("", text, count=1)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise DataError(f"is no base64: {error}") from error


def read_file(path: str | os.PathLike[str], max_px: int, within: str | None = None) -> bytes:
    """Reads an image file whole, if it is a regular file of a plausible size.

    Args:
        path: The file.
        max_px: As for :func:`decode`.
        within: See :func:`graftline.data.opening.open_file`.

    Raises:
        DataError: If it is a folder, a device or a pipe, or larger than such an image can be; its
            ``what`` can follow a file's name.
        OSError: If it cannot be read.
    """
    return read_seen(path, max_px, within)[0]


def read_seen(
    path: str | os.PathLike[str], max_px: int, within: str | None = None
) -> tuple[bytes, Stamp]:
    """As :func:`read_file`, with what tells later whether the file is still the one it was."""
    handle = open_file(path, within)
    try:
        status = os.fstat(handle)
        size_bytes = status.st_size
        refuse_large(size_bytes, max_px)
        stamp = stamp_of(status)
        data = os.read(handle, size_bytes)
        # A single call reads a small file whole; of a large one it may give less.
        while len(data) < size_bytes and (more := os.read(handle, size_bytes - len(data))):
            data += more
        return data, stamp
    finally:
        os.close(handle)


def refuse_large(size_bytes: int, max_px: int) -> None:
    """Refuses a file that is larger than an image of so many pixels can be.

    Raises:
        DataError: Its ``what`` can follow the file's name.
    """
    if size_bytes > max_px * _BYTES_PER_PX + _METADATA_BYTES:
        raise DataError(f"has {size_bytes} bytes, more than any image of {max_px} pixels")


def content_hash(pixels: Pixels) -> str:
    """The SHA-256 of an image's shape and pixels, in hexadecimal."""
    height, width, channels = pixels.shape
    digest = hashlib.sha256(f"{height}x{width}x{channels}:".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


@contextmanager
def named(name: str) -> Iterator[None]:
    """Names the file that this thread decodes, for :func:`collected_warnings`."""
    _thread.name = name
    try:
        yield
    finally:
        del _thread.name


@contextmanager
def collected_warnings() -> Iterator[list[tuple[str, str]]]:
    """Collects what PIL warns about while decoding, as (file, text), from all threads.

    Enter it in one thread, around the pool that decodes.
    """
    collected: list[tuple[str, str]] = []

    def collect(message: Warning | str, *_args: object, **_kwargs: object) -> None:
        collected.append((getattr(_thread, "name", ""), str(message)))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = collect
        yield collected
