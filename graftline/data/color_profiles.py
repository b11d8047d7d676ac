"""Colours by an embedded ICC profile, brought to sRGB as the networks know it."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_MOST_BYTES = 4 << 20
"""Profiles of presses take up to 3 MB; those of cameras and screens a few kB."""
_UNCHANGED = 2
"""A profile that moves no probed colour by more than this is sRGB under one of its many names."""
_SPACES = {"L": ("GRAY", "RGB "), "RGB": ("RGB ",), "CMYK": ("CMYK",), "LAB": ("Lab ",)}
_LAB_WHITE_K = 5000
# Without its cache of the last pixel a transform may be used by several threads at once.
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE
_BUILDING = threading.Lock()
Conversion = Callable[[Image.Image], Image.Image]


def to_srgb(image: Image.Image, profile: object) -> Image.Image:
    """Brings colours to sRGB: relative to white, black to black.

    A profile that cannot be used (broken, of another colour space, larger than 4 MiB) is left out
    with a warning, as viewers do.

    Args:
        image: Of mode L, RGB, CMYK or LAB.
        profile: The embedded one; anything but bytes counts as none.

    Returns:
        Of mode L or RGB; the image itself where nothing changes.
    """
    if isinstance(profile, bytes) and profile:
        conversion = _conversion(profile, image.mode)
        if not isinstance(conversion, str):
            return conversion(image)
        warnings.warn(f"its ICC profile is left out: {conversion}", stacklevel=2)
    if image.mode == "LAB":
        return _lab()(image)
    return image.convert("RGB") if image.mode == "CMYK" else image


# A data set has few profiles. What is kept is bounded: 16 profiles of at most 4 MiB.
@lru_cache(maxsize=16)
def _conversion(profile: bytes, mode: str) -> Conversion | str:
    """What converts images with this profile, or why nothing does."""
    if len(profile) > _MOST_BYTES:
        return f"it has {len(profile)} bytes, more than {_MOST_BYTES}"
    with _BUILDING:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space
            if space not in _SPACES[mode]:
                return (
                    f"it is made for {space.strip() or 'another colour space'}, not for this image"
                )
            return _for_grey(source, space) if mode == "L" else _for_colors(source, mode)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
            return f"it cannot be used ({error})"


@lru_cache(maxsize=1)
def _lab() -> Conversion:
    return _for_colors(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB", _LAB_WHITE_K)), "LAB")


def _for_grey(source: ImageCms.ImageCmsProfile, space: str) -> Conversion:
    ramp = np.arange(256, dtype=np.uint8)
    if space == "GRAY":
        probe, mode = Image.fromarray(ramp[np.newaxis]), "L"
    else:
        # Grey pictures often carry the profile of the colours that they were.
        probe, mode = Image.fromarray(np.repeat(ramp[np.newaxis, :, np.newaxis], 3, axis=2)), "RGB"
    # Red, green and blue of a grey differ by rounding only.
    table = np.asarray(_transform(source, mode)(probe))[0, :, 1]
    if _is_close(table, ramp):
        return _itself
    values = table.tolist()
    return lambda image: image.point(values)


def _for_colors(source: ImageCms.ImageCmsProfile, mode: str) -> Conversion:
    convert = _transform(source, mode)
    if mode != "RGB":
        return convert
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(27, 27, 3)
    return _itself if _is_close(np.asarray(convert(Image.fromarray(cube))), cube) else convert


def _transform(source: ImageCms.ImageCmsProfile, mode: str) -> Conversion:
    made = ImageCms.ImageCmsTransform(
        source,
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=_FLAGS | (ImageCms.Flags.NOOPTIMIZE if mode == "LAB" else ImageCms.Flags.NONE),
    )

    def convert(image: Image.Image) -> Image.Image:
        converted = Image.new("RGB", image.size)
        made.transform.apply(image.getim(), converted.getim())
        return converted

    return convert


def _is_close(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    return bool(np.abs(one.astype(np.int16) - other).max() <= _UNCHANGED)


def _itself(image: Image.Image) -> Image.Image:
    return image
