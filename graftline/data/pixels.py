"""From an opened image file to uint8 pixels: depth, colours, transparency, orientation."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from graftline.core.errors import DataError
from graftline.data.color_profiles import to_srgb
from graftline.data.image_openers import Tiff, raw_mode, with_raw_mode
from graftline.data.tiff_tags import Alpha, Deep
from graftline.data.white_levels import DeepImage, WhiteRule

Pixels = NDArray[np.uint8]
"""An image: height, width, channels (1 for grey, 3 for colour)."""
Again = Callable[[], ImageFile.ImageFile]
"""Opens the same file anew."""
_Hidden = NDArray[np.bool_] | None
"""Where a colour that counts as transparent hides the image (height, width)."""

_BLOCK_VALUES = 1 << 16
_16_BIT = Deep("16-bit", 65535, "u2")
_PNG_COLORS = {"LA;16B": 1, "RGB;16B": 3, "RGBA;16B": 3}
_LEVELS = {"L;2": 3, "L;4": 15, "L": 255}
"""The largest grey value of a PNG, by how Pillow calls its layout."""
_TURNED: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels),
}


def pixels_of(image: ImageFile.ImageFile, again: Again, white: WhiteRule) -> Pixels:
    """The pixels of an opened image: upright, in sRGB, on white.

    Args:
        image: With its header read.
        again: Opens the same file anew, since a file is decoded once only.
        white: Tells what is white in an image of more than 8 bits.

    Returns:
        Height, width, channels (1 or 3).

    Raises:
        DataError: If its values do not tell what they mean.
        Exception: Whatever Pillow raises for broken files.
    """
    # A TIFF's tags are gone once it is decoded; in a PNG they may stand after the pixels.
    orientation = 0 if image.format == "PNG" else _orientation(image)
    shown, hidden = _eight_bit(image, again, white)
    orientation = orientation or _orientation(image)
    pixels = _on_white(shown, image.info.get("icc_profile"))
    if hidden is not None and hidden.any():
        pixels = np.array(pixels)
        pixels[hidden] = 255
    turn = _TURNED.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _orientation(image: Image.Image) -> int:
    """What EXIF, or XMP, says of it; 1 where that is broken. Nothing else there is looked at."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    # Whatever is wrong with a note about an image is not wrong with the image.
    except Exception:
        return 1
    return found if isinstance(found, int) else 1


def _eight_bit(
    image: ImageFile.ImageFile, again: Again, white: WhiteRule
) -> tuple[Image.Image, _Hidden]:
    """The image with 8 bits a channel, and what a colour key or a small first frame hides of it."""
    layout = raw_mode(image.tile[0]) if image.tile else ""
    if isinstance(image, Tiff):
        deep = image.samples.deep
    else:
        deep = _16_BIT if image.format == "PNG" and "16" in layout else None
    if deep is not None:
        is_grey = image.samples.colors == 1 if isinstance(image, Tiff) else image.mode == "I;16"
        return (
            _from_grey(image, deep, white) if is_grey else _from_colors(image, again, deep, white)
        )
    hidden = _around_frame(image)
    image.load()
    shown: Image.Image = image
    if image.mode == "RGBA" and _alpha_kind(image) == "unsaid" and _is_all_0(image.getchannel("A")):
        shown = image.convert("RGB")
    if shown.mode in ("1", "L", "RGB") and "transparency" in image.info:
        keyed = _keyed(image, layout)
        hidden = keyed if hidden is None or keyed is None else hidden | keyed
    return shown, hidden


def _is_all_0(channel: Image.Image) -> bool:
    return channel.getbbox() is None


def _alpha_kind(image: Image.Image) -> Alpha:
    if isinstance(image, Tiff):
        return image.samples.alpha
    # The fourth byte of a bitmap is often but padding, also where its header calls it alpha.
    return "unsaid" if image.format == "BMP" else "straight"


def _around_frame(image: ImageFile.ImageFile) -> _Hidden:
    """Of a GIF what its first frame leaves open, if that is smaller than the whole."""
    extents = image.tile[0].extents if image.format == "GIF" and image.tile else None
    if extents is None or extents == (0, 0, *image.size):
        return None
    hidden = np.ones((image.height, image.width), bool)
    left, top, right, bottom = extents
    hidden[top:bottom, left:right] = False
    return hidden


def _keyed(image: ImageFile.ImageFile, layout: str) -> _Hidden:
    """Where the colour stands that counts as transparent: it is told in the file's own depth."""
    key: Any = image.info.pop("transparency")
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    if isinstance(key, int) and values.ndim == 2:
        if image.format == "PNG" and layout in _LEVELS:
            # Of the 16 bits that tell it, the low ones count.
            key = (key & _LEVELS[layout]) * (255 // _LEVELS[layout])
        return np.asarray(values == key)
    if isinstance(key, tuple) and len(key) == 3 and values.ndim == 3:
        return np.asarray((values == np.array(key, np.uint16).astype(np.uint8)).all(axis=2))
    return None


def _from_grey(image: Image.Image, deep: Deep, white: WhiteRule) -> tuple[Image.Image, _Hidden]:
    key = image.info.pop("transparency", None)
    stored = np.asarray(image)
    values = stored.view(np.dtype(deep.dtype).newbyteorder(stored.dtype.byteorder))
    hidden = np.asarray(values == key) if isinstance(key, int) else None
    level = _white_level(values, None if hidden is None else ~hidden, deep, white)
    is_negative = isinstance(image, Tiff) and image.samples.white_is_zero
    return Image.fromarray(_scaled(values, level, is_negative)), hidden


def _from_colors(
    image: ImageFile.ImageFile, again: Again, deep: Deep, white: WhiteRule
) -> tuple[Image.Image, _Hidden]:
    kind, key = _alpha_kind(image), image.info.pop("transparency", None)
    layout = raw_mode(image.tile[0])
    count = image.samples.colors if isinstance(image, Tiff) else _PNG_COLORS[layout]
    samples = _16_bit_samples(image, again)
    colors = samples[..., :count]
    alpha = samples[..., count] if samples.shape[2] > count and kind != "ignored" else None
    if alpha is not None and kind == "unsaid" and not alpha.any():
        alpha = None
    hidden = seen = None
    if alpha is not None:
        seen = alpha[..., np.newaxis] > 0
    elif isinstance(key, tuple) and len(key) == count:
        hidden = np.asarray((colors == np.array(key, np.uint16)).all(axis=2))
        seen = ~hidden[..., np.newaxis]
    level = _white_level(colors, seen, deep, white)
    eight = _scaled(colors, level)
    size = (eight.shape[1], eight.shape[0])
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[count]
    shown = Image.frombuffer(mode, size, eight, "raw", mode, 0, 1)
    if alpha is not None:
        shown.putalpha(Image.fromarray(_alpha(alpha, level, deep)))
        if kind == "associated":
            shown = Image.frombytes("RGBa", size, shown.tobytes())
    return shown, hidden


def _16_bit_samples(image: ImageFile.ImageFile, again: Again) -> NDArray[np.uint16]:
    """The samples (height, width, samples) of an image of which Pillow shows the high bytes only.

    Pillow's raw modes for 16 bits in the one and in the other byte order keep the first and the
    second byte of each sample, so that two readings give both.
    """
    if raw_mode(image.tile[0]) == "LA;16B":
        # Grey and alpha, high byte and low byte: as many bytes as four colours have.
        return _read_as(image, "RGBA", "RGBA").view(">u2")
    stored_big = sys.byteorder == "big"
    if isinstance(image, Tiff):
        mode = "CMYK" if image.mode == "CMYK" else "RGBA" if image.samples.beside else "RGB"
        if not image.use_load_libtiff:
            stored_big = image.is_big_endian
    else:
        mode, stored_big = image.mode, True
    first = _read_as(image, mode, f"{mode};16B")
    with again() as other:
        second = _read_as(other, mode, f"{mode};16L")
    high, low = (first, second) if stored_big else (second, first)
    samples = high.astype(np.uint16)
    samples <<= 8
    samples |= low
    return samples


def _read_as(image: ImageFile.ImageFile, mode: str, layout: str) -> NDArray[np.uint8]:
    image._mode = mode
    image.tile = [with_raw_mode(tile, layout) for tile in image.tile]
    return np.asarray(image)


def _white_level(
    values: NDArray[Any], seen: NDArray[np.bool_] | None, deep: Deep, white: WhiteRule
) -> float:
    """The raw value that is white, by those of the values that can be seen."""
    low = float(values.min())
    high = float(values.max() if seen is None else values.max(where=seen, initial=0))
    # Written so that it holds for NaN, too.
    if not (low >= 0 and high < np.inf):
        raise DataError(f"has {deep.kind} values from {low:g} to {high:g}; below 0 is no light")
    # Nothing but zeros looks the same by every rule.
    return white(DeepImage(deep.kind, deep.full, high)) if high else deep.full


def _scaled(values: NDArray[Any], level: float, is_negative: bool = False) -> Pixels:
    """Raw values from 0 to ``level`` as 0 to 255; negative: as 255 to 0."""
    scaled = np.empty(values.shape, np.uint8)
    # Some rows at a time: as a whole, 64-bit numbers would take many times the image.
    rows = max(1, _BLOCK_VALUES // max(1, values[0].size))
    for start in range(0, len(values), rows):
        block = values[start : start + rows].astype(np.float64)
        block *= 255
        block /= level
        if is_negative:
            np.subtract(255, block, out=block)
        np.rint(block, out=block)
        scaled[start : start + rows] = np.clip(block, 0, 255, out=block)
    return scaled


def _alpha(alpha: NDArray[np.uint16], level: float, deep: Deep) -> Pixels:
    if level == deep.full:
        return _scaled(alpha, deep.full)
    # Beside colours of fewer bits than the file has room for, what is opaque is a guess, too.
    if alpha.min() == alpha.max() and alpha.max() in (level, deep.full):
        return np.full(alpha.shape, 255, np.uint8)
    raise DataError(
        f"has an alpha channel of {alpha.min()} to {alpha.max()} beside colours of which {level:g} "
        "is white, so that nothing tells what is opaque; save it without alpha"
    )


def _on_white(image: Image.Image, profile: object) -> Pixels:
    is_palette = image.mode in ("P", "PA")
    alpha = None
    if image.mode in ("RGBa", "La"):
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    is_keyed = image.mode == "P" and isinstance(image.info.get("transparency"), (int, bytes))
    if is_keyed or image.mode == "PA":
        image = image.convert("RGBA")
    if image.mode in ("LA", "RGBA"):
        alpha = image.getchannel("A")
    if image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image.info.pop("transparency", None)
        image = image.convert("L" if image.mode in ("1", "LA") else "RGB")
    image = to_srgb(image, profile)
    if alpha is not None:
        white = Image.new(image.mode, image.size, "white")
        white.paste(image, mask=alpha)
        image = white
    pixels: Pixels = np.asarray(image, np.uint8)
    if pixels.ndim == 2:
        return pixels[..., None]
    # A palette of greys alone is how GIF, and small PNG files, keep a grey image.
    if is_palette and (pixels == pixels[..., :1]).all():
        return np.ascontiguousarray(pixels[..., :1])
    return pixels
