"""Decoding: the bytes of an image file as uint8 pixels, the same on every machine."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from graftline.errors import DataError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
KNOWN = ", ".join(FORMATS)
"""The formats, for people."""
# Of formats that Pillow may have no decoder for: they are images all the same, and said to be.
_NAMED_SUFFIXES = (".avif", ".heic", ".heif", ".hif")
Pixels = NDArray[np.uint8]
"""An image: height, width, channels (1 for grey, 3 for colour)."""

_DATA_ADDRESS = re.compile(r"^data:[^,]{0,200};base64,")
# No format of ours needs more than 16 bytes for a pixel; the rest is for metadata.
_BYTES_PER_PX = 16
_METADATA_BYTES = 64 << 20
_OPENING = threading.Lock()
_thread = threading.local()


@cache
def suffixes() -> tuple[str, ...]:
    """How the names of image files end, in small letters: as Pillow has it for the formats."""
    known = Image.registered_extensions().items()
    return (*(suffix for suffix, kind in known if kind in FORMATS), *_NAMED_SUFFIXES)


def begins_like_image(beginning: bytes) -> bool:
    """Whether a file of these first bytes, 64 or more if it has them, is of one of the formats."""
    Image.init()
    accepting = (Image.OPEN[kind][1] for kind in FORMATS if kind in Image.OPEN)
    return any(accepts is None or bool(accepts(beginning)) for accepts in accepting)


def decode(data: bytes, max_px: int, limit: str = "data.max_image_px") -> Pixels:
    """Decodes an image file: its first frame, upright, on white, grey or RGB.

    Grey images, also those with a palette of greys, have one channel, all others three. The
    orientation that EXIF tells is applied, transparency is laid over white, 16-bit grey is scaled
    to 8 bits. 32-bit integers are taken as
    16-bit grey; floating-point grey as 0 to 1, or as 0 to 255 if any value is above 1.

    Args:
        data: The file's bytes.
        max_px: The largest allowed width x height, checked in the header, before any decoding.
        limit: What sets that, for the error.

    Returns:
        Height, width, channels (1 or 3).

    Raises:
        DataError: If the bytes are no whole image of a known format, or too large a one. Its
            ``what`` is the reason, in words that can follow a file's name.
    """
    if not data:
        raise DataError("the file is empty (0 bytes)")
    try:
        with _opened(data, max_px, limit) as image:
            return _pixels(image)
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
        within: The folder, links followed, that the file must lie in once it is open. Whoever looks
            at a path first and opens it later may find a link there that was none before.

    Raises:
        DataError: If it is a folder, a device or a pipe, or larger than such an image can be; its
            ``what`` can follow a file's name.
        OSError: If it cannot be read.
    """
    # O_NONBLOCK: opening a pipe that stands among the images must not wait for a writer.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        raise DataError("bears a name that no file has") from error
    try:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise DataError("is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise DataError("is no regular file")
        if within is not None and not _opened_within(handle, within):
            raise DataError("leads out of the source")
        limit = max_px * _BYTES_PER_PX + _METADATA_BYTES
        if status.st_size > limit:
            raise DataError(f"has {status.st_size} bytes, more than any image of {max_px} pixels")
        data = os.read(handle, status.st_size)
        # A single call reads a small file whole; of a large one it may give less.
        while len(data) < status.st_size and (more := os.read(handle, status.st_size - len(data))):
            data += more
        return data
    finally:
        os.close(handle)


def _opened_within(handle: int, folder: str) -> bool:
    # Only Linux tells what was opened; elsewhere the look at the path has to do.
    try:
        opened = os.readlink(f"/proc/self/fd/{handle}")
    except OSError:
        return True
    return opened.startswith(os.path.join(folder, ""))


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


def _opened(data: bytes, max_px: int, limit: str) -> Image.Image:
    # PIL's own limit holds for the whole process and merely warns up to twice its value. It is off
    # for as long as a header is read, under a lock; ours is checked before anything is decoded.
    with _OPENING:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise DataError(f"is no image of a known kind ({KNOWN})") from error
        finally:
            Image.MAX_IMAGE_PIXELS = before
    width, height = image.size
    if width * height > max_px:
        raise DataError(
            f"has {width} x {height} = {width * height} pixels, more than {max_px} ({limit})"
        )
    return image


def _pixels(image: Image.Image) -> Pixels:
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        return _from_16_bit(np.asarray(image))
    if image.mode == "F":
        return _from_float(np.asarray(image))
    is_palette = image.mode in ("P", "PA")
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.has_transparency_data:
        image = _over_white(image)
    if image.mode != mode:
        image = image.convert(mode)
    pixels: Pixels = np.asarray(image, np.uint8)
    if pixels.ndim == 2:
        return pixels[..., None]
    # A palette of greys alone is how GIF, and small PNG files, keep a grey image.
    if is_palette and (pixels == pixels[..., :1]).all():
        return np.ascontiguousarray(pixels[..., :1])
    return pixels


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA"))


def _from_16_bit(grey: NDArray[np.generic]) -> Pixels:
    values = grey.astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(
            f"has grey values from {values.min()} to {values.max()}, beyond 16 bits (0 to 65535)"
        )
    return ((values + 128) // 257).astype(np.uint8)[..., None]


def _from_float(grey: NDArray[np.floating]) -> Pixels:
    low, high = float(grey.min()), float(grey.max())
    if not (0 <= low and high <= 255):
        raise DataError(f"has grey values from {low:g} to {high:g}, outside 0 to 1 and 0 to 255")
    scale = 255.0 if high <= 1 else 1.0
    return np.rint(grey.astype(np.float64) * scale).astype(np.uint8)[..., None]
