"""The samples of a TIFF by its tags, and the kinds that are read; all others are refused.

Pillow takes many TIFF files for what they are not (WhiteIsZero of 16 bits, planes of 16 bits,
signed bytes, compressed big-endian floats, ...) and says nothing. So the tags are looked at here
first, and only what the tests hold against values written down goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from graftline.core.counts import counted
from graftline.core.errors import DataError
from graftline.data.white_levels import FLOAT

SUBFILE, OLD_SUBFILE = 254, 255
BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR = 258, 259, 262, 277, 284
EXTRA, FORMAT = 338, 339
_COLOR_MAP, _SUB_IFDS, _INK_SET, _COEFFICIENTS, _SUBSAMPLING, _REFERENCE = (
    320,
    330,
    332,
    529,
    530,
    532,
)

_RAW, _OLD_JPEG, _JPEG = 1, 6, 7
_PHOTOMETRIC = {
    0: "grey, white is zero",
    1: "grey, black is zero",
    2: "RGB",
    3: "palette",
    4: "transparency mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELab",
    9: "ICCLab",
    10: "ITULab",
    32803: "colour filter array",
    32844: "LogL",
    32845: "LogLuv",
    34892: "linear raw",
}
_COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
_FORMATS = {1: "unsigned", 2: "signed", 3: FLOAT, 4: "undefined"}
_CONVERT = "convert it to PNG, or to a TIFF of 8 bits a sample, with its samples side by side"

Alpha = Literal["none", "ignored", "straight", "associated", "unsaid"]


@dataclass(frozen=True)
class Deep:
    """Samples that Pillow does not bring to 8 bits, or not as it should.

    Args:
        kind: As :class:`graftline.data.white_levels.DeepImage` has it.
        full: The largest value of this kind.
        dtype: NumPy's, without the byte order; what Pillow's array is to be seen as.
    """

    kind: str
    full: float
    dtype: str


@dataclass(frozen=True)
class TiffSamples:
    """One pixel of a TIFF.

    Args:
        colors: How many samples are colours.
        beside: How many samples stand beside them.
        deep: What they hold, if they have more than 8 bits or a sign.
        white_is_zero: Whether the deep grey values count from white down.
        alpha: What the first of those beside is; ``unsaid`` where the file does not tell.
    """

    colors: int
    beside: int
    deep: Deep | None
    white_is_zero: bool
    alpha: Alpha


# By bits and sample format.
_DEEP = {
    (8, 2): Deep("signed 8-bit", 127, "i1"),
    (12, 1): Deep("12-bit", 4095, "u2"),
    (16, 1): Deep("16-bit", 65535, "u2"),
    (16, 2): Deep("signed 16-bit", 32767, "i4"),
    (16, 3): Deep(FLOAT, 1, "f2"),
    (32, 1): Deep("32-bit", (1 << 32) - 1, "u4"),
    (32, 2): Deep("signed 32-bit", (1 << 31) - 1, "i4"),
    (32, 3): Deep(FLOAT, 1, "f4"),
}


def samples_of(tags: Mapping[int, Any], big_endian: bool, next_page: int) -> TiffSamples:
    """What the tags of a TIFF's first page say.

    Args:
        tags: By number, as Pillow reads them.
        big_endian: The file's byte order.
        next_page: Where the next page begins; 0 if there is none.

    Raises:
        DataError: If its samples are of a kind that is not read. Its ``what`` can follow a file's
            name, and tells what the file holds.
    """
    page = _Page.of(tags)
    _refuse_thumbnail(tags, next_page)
    problem = page.problem(tags, big_endian)
    if problem:
        raise DataError(f"is a TIFF of {page}: {problem}; {_CONVERT}")
    return TiffSamples(
        _COLORS[page.photometric],
        page.samples - _COLORS[page.photometric],
        _DEEP.get((page.bits, page.format)),
        page.photometric == 0,
        page.alpha,
    )


def unreadable(tags: Mapping[int, Any], reason: object) -> DataError:
    """The error of a TIFF that Pillow cannot open, with what the file holds."""
    try:
        page = _Page.of(tags)
    except DataError as error:
        return error
    return DataError(f"is a TIFF of {page}, which cannot be decoded ({reason}); {_CONVERT}")


@dataclass(frozen=True)
class _Page:
    photometric: int
    all_bits: tuple[int, ...]
    all_formats: tuple[int, ...]
    samples: int
    extra: tuple[int, ...]
    planar: int
    compression: int

    @classmethod
    def of(cls, tags: Mapping[int, Any]) -> _Page:
        compression = _number(tags, COMPRESSION, _RAW)
        # The old kind of JPEG often lacks what it must be: colours in three samples.
        old = compression == _OLD_JPEG
        photometric = _number(tags, PHOTOMETRIC, 6 if old else -1)
        if photometric < 0:
            raise DataError(
                "is a TIFF without the tag PhotometricInterpretation, so that nothing tells "
                f"whether zero is black or white; {_CONVERT}"
            )
        bits = _numbers(tags, BITS, (1,))
        samples = _number(tags, SAMPLES, 3 if old and photometric in (2, 6) else 1)
        return cls(
            photometric,
            bits,
            _numbers(tags, FORMAT, (1,)),
            samples,
            _numbers(tags, EXTRA, ()),
            # Of one sample there is one plane, whatever the tag says.
            _number(tags, PLANAR, 1) if samples > 1 else 1,
            compression,
        )

    @property
    def bits(self) -> int:
        return self.all_bits[0] if len(set(self.all_bits)) == 1 else 0

    @property
    def format(self) -> int:
        return self.all_formats[0] if len(set(self.all_formats)) == 1 else 0

    @property
    def alpha(self) -> Alpha:
        if self.extra:
            return {1: "associated", 2: "straight"}.get(self.extra[0], "ignored")  # type: ignore[return-value]
        return "unsaid" if self.samples > _COLORS.get(self.photometric, 1) else "none"

    def __str__(self) -> str:
        bits = "/".join(map(str, sorted(set(self.all_bits))))
        formats = "/".join(
            _FORMATS.get(one, f"format {one}") for one in sorted(set(self.all_formats))
        )
        named = _PHOTOMETRIC.get(self.photometric, f"photometric interpretation {self.photometric}")
        planes = " in separate planes" if self.planar == 2 else ""
        return f"{counted(self.samples, 'sample')} of {bits} bits, {formats}, {named}{planes}"

    def problem(self, tags: Mapping[int, Any], big_endian: bool) -> str | None:
        """Why it is not read, if it is not."""
        colors = _COLORS.get(self.photometric)
        if colors is None or not self.bits or not self.format:
            return "this is not read"
        if self.planar not in (1, 2):
            return f"PlanarConfiguration is {self.planar}"
        beside = self.samples - colors
        if beside < 0 or (self.extra and len(self.extra) != beside):
            return f"{len(self.extra)} extra samples are announced, and there are {beside}"
        if self.photometric in (0, 1) and not beside:
            return self._grey_problem(big_endian)
        if self.format != 1:
            return "only unsigned samples are read here"
        if self.planar == 2 and (self.bits != 8 or (self.extra and self.extra[0] == 1)):
            return "separate planes are read of 8 bits only, and without associated alpha"
        if self.planar == 2 and beside and colors == 1:
            return "separate planes are not read here"
        return self._color_problem(tags)

    def _grey_problem(self, big_endian: bool) -> str | None:
        if self.format == 1 and self.bits in (1, 2, 4, 8):
            return None
        if (self.bits, self.format) not in _DEEP:
            return "this depth is not read"
        if self.bits == 12 and (big_endian or self.compression == _JPEG):
            return "12 bits are read in little-endian order only, and not from JPEG"
        return None

    def _color_problem(self, tags: Mapping[int, Any]) -> str | None:
        beside = self.samples - _COLORS[self.photometric]
        if self.photometric in (2, 5) and self.bits == 16:
            return None if beside <= (self.photometric == 2) else "there are too many samples"
        if self.photometric == 3 and self.bits in (1, 2, 4):
            return None
        if self.bits != 8:
            return "this depth is not read"
        if self.photometric == 5 and _number(tags, _INK_SET, 1) != 1:
            return "its inks are not cyan, magenta, yellow and black"
        if self.photometric == 6:
            return self._ycbcr_problem(tags)
        if self.photometric == 8 and (self.planar == 2 or beside):
            return "CIELab is read with its three samples side by side only"
        return None

    def _ycbcr_problem(self, tags: Mapping[int, Any]) -> str | None:
        if self.compression == _OLD_JPEG:
            return None
        if self.planar == 2 or self.samples != 3:
            return "YCbCr is read with its three samples side by side only"
        # Pillow hands compressed files to libtiff, which minds these tags; others it reads itself.
        plain = _numbers(tags, _SUBSAMPLING, (2, 2)) == (1, 1)
        if self.compression == _RAW and not (plain and _is_usual(tags)):
            return "uncompressed YCbCr is read without subsampling, by the usual coefficients only"
        return None


def _is_usual(tags: Mapping[int, Any]) -> bool:
    coefficients = [float(one) for one in tags.get(_COEFFICIENTS, (0.299, 0.587, 0.114))]
    reference = [float(one) for one in tags.get(_REFERENCE, (0, 255, 128, 255, 128, 255))]
    near = all(
        abs(one - usual) < 1e-3
        for one, usual in zip(coefficients, (0.299, 0.587, 0.114), strict=False)
    )
    return near and reference == [0, 255, 128, 255, 128, 255]


def _refuse_thumbnail(tags: Mapping[int, Any], next_page: int) -> None:
    is_reduced = _number(tags, SUBFILE, 0) & 1 or _number(tags, OLD_SUBFILE, 1) == 2
    if is_reduced and (next_page or _SUB_IFDS in tags):
        raise DataError(
            "is a TIFF whose first page is a reduced copy of another one, as raw files of cameras "
            "have it; convert it to PNG or JPEG first"
        )


def _number(tags: Mapping[int, Any], tag: int, default: int) -> int:
    value = tags.get(tag, default)
    if isinstance(value, tuple) and value:
        value = value[0]
    if not isinstance(value, int):
        raise DataError(f"is a TIFF whose tag {tag} is no whole number")
    return value


def _numbers(tags: Mapping[int, Any], tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
    value = tags.get(tag, default)
    found = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(one, int) for one in found) or (tag != EXTRA and not found):
        raise DataError(f"is a TIFF whose tag {tag} is no list of whole numbers")
    return found


def has_8_bit_color_map(tags: Mapping[int, Any]) -> bool:
    """Whether a palette's values, which should have 16 bits, all fit 8: as such they are meant."""
    colors = tags.get(_COLOR_MAP, ())
    return bool(colors) and max(colors) < 256
