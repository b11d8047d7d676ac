"""Image files of every form, built byte by byte, each with the pixels that it shows.

The pixels are written down, not computed: rows of grey values, or of (red, green, blue).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8}
_CODES = {1: "B", 3: "H", 4: "I"}
Tags = dict[int, tuple[int, Any]]


@dataclass(frozen=True)
class Form:
    """One file and what it shows."""

    name: str
    data: bytes
    rows: Any

    @property
    def pixels(self) -> np.ndarray:
        """Height, width, channels."""
        array = np.array(self.rows, np.uint8)
        return array[..., None] if array.ndim == 2 else array


def tiff(
    width: int,
    height: int,
    strips: Sequence[bytes],
    bits: Sequence[int] = (8,),
    photometric: int | None = 1,
    *,
    big: bool = False,
    packed: bool = False,
    tags: Tags | None = None,
) -> bytes:
    """A TIFF of one page; ``packed``: deflated. Tags are (type, values), a list or bytes."""
    order = ">" if big else "<"
    strips = [zlib.compress(one) for one in strips] if packed else strips
    entries: Tags = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, list(bits)),
        259: (3, [8 if packed else 1]),
        277: (3, [len(bits)]),
        278: (4, [height]),
        279: (4, [len(one) for one in strips]),
        **({} if photometric is None else {262: (3, [photometric])}),
        **(tags or {}),
    }
    body, offsets = b"", []
    for one in strips:
        offsets.append(8 + len(body))
        body += one + b"\0" * (len(one) % 2)
    if 322 in entries:
        entries[325], entries[324] = entries.pop(279), (4, offsets)
    else:
        entries[273] = (4, offsets)
    start = 8 + len(body)
    beyond, directory = start + 2 + 12 * len(entries) + 4, b""
    values = b""
    for tag, (kind, given) in sorted(entries.items()):
        raw = (
            given
            if isinstance(given, bytes)
            else struct.pack(f"{order}{len(given)}{_CODES[kind]}", *given)
        )
        directory += struct.pack(f"{order}HHI", tag, kind, len(raw) // _SIZES[kind])
        if len(raw) > 4:
            directory += struct.pack(f"{order}I", beyond + len(values))
            values += raw + b"\0" * (len(raw) % 2)
        else:
            directory += raw.ljust(4, b"\0")
    head = (b"MM\0*" if big else b"II*\0") + struct.pack(f"{order}I", start)
    return head + body + struct.pack(f"{order}H", len(entries)) + directory + bytes(4) + values


def png(
    width: int,
    height: int,
    depth: int,
    color: int,
    rows: Sequence[bytes],
    *chunks: tuple[bytes, bytes],
    interlaced: bool = False,
) -> bytes:
    """A PNG; ``chunks`` stand before its pixels. Interlaced rows are those of its passes."""
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", head), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def bmp(width: int, height: int, rows: bytes, masks: Sequence[int], bits: int = 32) -> bytes:
    """A bitmap with bit fields (header version 4), its rows from the top."""
    head = struct.pack("<IiiHHIIiiII", 108, width, -height, 1, bits, 3, len(rows), 2835, 2835, 0, 0)
    head = (head + struct.pack("<4I", *masks)).ljust(108, b"\0")
    return b"BM" + struct.pack("<IHHI", 122 + len(rows), 0, 0, 122) + head + rows


def saved(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    """What Pillow writes."""
    file = io.BytesIO()
    whole = image if isinstance(image, Image.Image) else Image.fromarray(image)
    whole.save(file, kind, **options)
    return file.getvalue()


def exif(*entries: tuple[int, int, int, bytes], beyond: bytes = b"") -> bytes:
    """EXIF, big-endian: (tag, type, count, four bytes), and what their offsets lead to."""
    table = b"".join(struct.pack(">HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + table + bytes(4) + beyond


def in_order(values: Sequence[float], kind: str, *, big: bool = False) -> bytes:
    """Numbers as bytes."""
    return np.array(values, (">" if big else "<") + kind).tobytes()


def fixed(value: float) -> bytes:
    """A number as ICC profiles have it."""
    return struct.pack(">i", round(value * 65536))


_SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
"""Red, green and blue of sRGB, as the profile of another order of channels has them."""


def profile(
    space: bytes, tags: Sequence[tuple[bytes, bytes]], kind: bytes = b"mntr", pcs: bytes = b"XYZ "
) -> bytes:
    """An ICC profile of version 2."""
    white = (b"wtpt", b"XYZ " + bytes(4) + fixed(0.9642) + fixed(1) + fixed(0.8249))
    all_tags = [white, *tags]
    at, table, body = 128 + 4 + 12 * len(all_tags), b"", b""
    for name, data in all_tags:
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    head = bytearray(128)
    head[0:4] = struct.pack(">I", at + len(body))
    head[8:12] = b"\x02\x40\0\0"
    head[12:16], head[16:20], head[20:24], head[36:40] = kind, space, pcs, b"acsp"
    head[68:80] = fixed(0.9642) + fixed(1) + fixed(0.8249)
    return bytes(head) + struct.pack(">I", len(all_tags)) + table + body


def _gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256)) + bytes(2)


def _srgb_curve() -> bytes:
    steps = np.linspace(0, 1, 1024)
    linear = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    values = np.rint(linear * 65535).astype(">u2").tobytes()
    return b"curv" + bytes(4) + struct.pack(">I", 1024) + values


def matrix_profile(order: tuple[int, int, int] = (0, 1, 2)) -> bytes:
    """sRGB with its channels in another order: (1, 0, 2) has red and green change places."""
    names = ((b"rXYZ", b"rTRC"), (b"gXYZ", b"gTRC"), (b"bXYZ", b"bTRC"))
    tags = []
    for (color, curve), at in zip(names, order, strict=True):
        tags.append((color, b"XYZ " + bytes(4) + b"".join(map(fixed, _SRGB[at]))))
        tags.append((curve, _srgb_curve()))
    return profile(b"RGB ", tags)


def grey_profile(gamma: float = 1.0) -> bytes:
    """Grey whose light is its value to the power of gamma."""
    return profile(b"GRAY", [(b"kTRC", _gamma(gamma))])


def press_profile() -> bytes:
    """Four inks, of which full cyan alone gives L* = 50, neutral; any black ink gives black."""
    identity = bytes(range(256))
    clut = b""
    for point in range(16):
        cyan, magenta, yellow, black = (
            (point >> 3) & 1,
            (point >> 2) & 1,
            (point >> 1) & 1,
            point & 1,
        )
        light = 0 if black else 255 if not (cyan or magenta or yellow) else 128
        clut += bytes((light, 128, 128))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0))
    lut += b"".join(fixed(value) for value in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    lut += identity * 4 + clut + identity * 3
    return profile(b"CMYK", [(b"A2B0", lut), (b"A2B1", lut)], b"prtr", b"Lab ")


def tiff_predicted() -> bytes:
    """Big-endian 16-bit grey, deflated, each value as its difference from the one before."""
    differences = in_order([257, 257, 514, 65535 - 1028], "u2", big=True)
    return tiff(4, 1, [differences], (16,), big=True, packed=True, tags={317: (3, [2])})


SWAPPED = matrix_profile((1, 0, 2))
_ICC = (b"iCCP", b"other\0\0" + zlib.compress(SWAPPED))
_TWO_RGB = b"\x0a\x14\x1e\x28\x32\x3c"
_TWO_SHOWN = [[(10, 20, 30), (40, 50, 60)]]
_ODD_RESOLUTION = (2, b"seventy-two")
_TEXT = struct.pack(">I", 26 + 24)
"""Where the text of EXIF with three entries lies."""
ODD_EXIF = exif(
    (0x0112, 3, 1, b"\0\x03\0\0"),
    (0x011A, 2, 12, _TEXT),
    (0x829A, 5, 1, struct.pack(">I", 50 + 12)),
    beyond=b"seventy-two\0" + struct.pack(">iI", -1, 0),
)
"""Upside down (3), with a resolution that is a text and an exposure of -1/0."""
_HALVES = np.repeat(np.repeat(np.array([[40, 200]], np.uint8), 8, axis=0), 8, axis=1)
_HALVES_TURNED = [[200] * 8 + [40] * 8] * 8


def _deep_tiffs() -> list[Form]:
    kinds = {
        "16-bit": ("u2", 16, 1, [0, 257, 32768, 65535], [0, 1, 128, 255], [255, 254, 127, 0]),
        "signed 8-bit": ("i1", 8, 2, [0, 1, 64, 127], [0, 2, 129, 255], [255, 253, 126, 0]),
        "signed 16-bit": (
            "i2",
            16,
            2,
            [0, 129, 16384, 32767],
            [0, 1, 128, 255],
            [255, 254, 127, 0],
        ),
        "32-bit": (
            "u4",
            32,
            1,
            [0, 16843009, 2**31, 2**32 - 1],
            [0, 1, 128, 255],
            [255, 254, 127, 0],
        ),
        "signed 32-bit": (
            "i4",
            32,
            2,
            [0, 8421505, 2**30, 2**31 - 1],
            [0, 1, 128, 255],
            [255, 254, 127, 0],
        ),
        "float": ("f4", 32, 3, [0, 0.25, 0.75, 1], [0, 64, 191, 255], [255, 191, 64, 0]),
        "half": ("f2", 16, 3, [0, 0.25, 0.75, 1], [0, 64, 191, 255], [255, 191, 64, 0]),
    }
    forms = []
    for name, (kind, bits, sample, values, black, white) in kinds.items():
        for big in (False, True):
            for packed in (False, True):
                for photometric, shown in ((1, black), (0, white)):
                    title = (
                        f"tiff {name} {'MM' if big else 'II'} {'deflated' if packed else 'bare'}"
                    )
                    data = tiff(
                        4,
                        1,
                        [in_order(values, kind, big=big)],
                        (bits,),
                        photometric,
                        big=big,
                        packed=packed,
                        tags={339: (3, [sample])},
                    )
                    forms.append(Form(f"{title} photometric {photometric}", data, [shown]))
    for packed in (False, True):
        bits_12 = bytes((0x00, 0x0F, 0xFF, 0x80, 0x00, 0x01))
        for photometric, shown in ((1, [0, 255, 128, 0]), (0, [255, 0, 127, 255])):
            forms.append(
                Form(
                    f"tiff 12-bit {'deflated' if packed else 'bare'} photometric {photometric}",
                    tiff(4, 1, [bits_12], (12,), photometric, packed=packed),
                    [shown],
                )
            )
    return forms


def _plain_tiffs() -> list[Form]:
    forms = []
    for big in (False, True):
        for packed in (False, True):
            ways = {"big": big, "packed": packed}
            title = f"tiff {'MM' if big else 'II'} {'deflated' if packed else 'bare'}"
            colors = [0, 0x0101, 0xFFFF, 0x8000, 0x7FFF, 0x0180]
            shown = [[(0, 1, 255), (128, 127, 1)]]
            wide = [*colors[:3], 0xFFFF, *colors[3:], 0xFFFF]
            inks = [0, 0xFFFF, 0xFFFF, 0, 0x8000, 0, 0, 0]
            straight = b"\x0a\x14\x1e\xff\x28\x32\x3c\x00"
            forms += [
                Form(
                    f"{title} 1 bit, white is zero",
                    tiff(8, 1, [b"\x0f"], (1,), 0, **ways),
                    [[255] * 4 + [0] * 4],
                ),
                Form(f"{title} 2 bits", tiff(4, 1, [b"\x1b"], (2,), **ways), [[0, 85, 170, 255]]),
                Form(
                    f"{title} 4 bits, white is zero",
                    tiff(2, 1, [b"\x1f"], (4,), 0, **ways),
                    [[238, 0]],
                ),
                Form(
                    f"{title} grey, white is zero",
                    tiff(2, 1, [b"\1\2"], (8,), 0, **ways),
                    [[254, 253]],
                ),
                Form(
                    f"{title} grey in a plane of its own",
                    tiff(2, 1, [b"\1\2"], (8,), 0, **ways, tags={284: (3, [2])}),
                    [[254, 253]],
                ),
                Form(
                    f"{title} 16-bit grey in a plane of its own",
                    tiff(
                        2,
                        1,
                        [in_order([257, 65535], "u2", big=big)],
                        (16,),
                        **ways,
                        tags={284: (3, [2])},
                    ),
                    [[1, 255]],
                ),
                Form(f"{title} RGB", tiff(2, 1, [_TWO_RGB], (8,) * 3, 2, **ways), _TWO_SHOWN),
                Form(
                    f"{title} RGB in planes",
                    tiff(
                        2,
                        1,
                        [b"\x0a\x28", b"\x14\x32", b"\x1e\x3c"],
                        (8,) * 3,
                        2,
                        **ways,
                        tags={284: (3, [2])},
                    ),
                    _TWO_SHOWN,
                ),
                Form(
                    f"{title} 16-bit RGB",
                    tiff(2, 1, [in_order(colors, "u2", big=big)], (16,) * 3, 2, **ways),
                    shown,
                ),
                Form(
                    f"{title} 16-bit RGB and something",
                    tiff(
                        2,
                        1,
                        [in_order([*colors[:3], 7, *colors[3:], 0], "u2", big=big)],
                        (16,) * 4,
                        2,
                        **ways,
                        tags={338: (3, [0])},
                    ),
                    shown,
                ),
                Form(
                    f"{title} 16-bit RGB, opaque",
                    tiff(
                        2,
                        1,
                        [in_order(wide, "u2", big=big)],
                        (16,) * 4,
                        2,
                        **ways,
                        tags={338: (3, [2])},
                    ),
                    shown,
                ),
                Form(
                    f"{title} alpha",
                    tiff(2, 1, [straight], (8,) * 4, 2, **ways, tags={338: (3, [2])}),
                    [[(10, 20, 30), (255, 255, 255)]],
                ),
                Form(
                    f"{title} alpha in planes",
                    tiff(
                        2,
                        1,
                        [b"\x0a\x28", b"\x14\x32", b"\x1e\x3c", b"\xff\0"],
                        (8,) * 4,
                        2,
                        **ways,
                        tags={284: (3, [2]), 338: (3, [2])},
                    ),
                    [[(10, 20, 30), (255, 255, 255)]],
                ),
                Form(
                    f"{title} associated alpha",
                    tiff(
                        2,
                        1,
                        [b"\x0a\x14\x1e\xff\0\0\0\x66"],
                        (8,) * 4,
                        2,
                        **ways,
                        tags={338: (3, [1])},
                    ),
                    [[(10, 20, 30), (153, 153, 153)]],
                ),
                Form(
                    f"{title} 16-bit associated alpha",
                    tiff(
                        2,
                        1,
                        [in_order([257, 514, 771, 65535, 0, 0, 0, 0x6666], "u2", big=big)],
                        (16,) * 4,
                        2,
                        **ways,
                        tags={338: (3, [1])},
                    ),
                    [[(1, 2, 3), (153, 153, 153)]],
                ),
                Form(
                    f"{title} a fourth sample of nothing",
                    tiff(2, 1, [b"\x0a\x14\x1e\0\x28\x32\x3c\0"], (8,) * 4, 2, **ways),
                    _TWO_SHOWN,
                ),
                Form(
                    f"{title} a fourth sample of something",
                    tiff(2, 1, [straight], (8,) * 4, 2, **ways),
                    [[(10, 20, 30), (255, 255, 255)]],
                ),
                Form(
                    f"{title} grey and alpha",
                    tiff(2, 1, [b"\x0a\xff\x14\0"], (8, 8), **ways, tags={338: (3, [2])}),
                    [[10, 255]],
                ),
                Form(
                    f"{title} grey and associated alpha",
                    tiff(2, 1, [b"\x0a\xff\0\x66"], (8, 8), **ways, tags={338: (3, [1])}),
                    [[10, 153]],
                ),
                Form(
                    f"{title} grey and something",
                    tiff(2, 1, [b"\x0a\xff\x14\0"], (8, 8), **ways, tags={338: (3, [0])}),
                    [[10, 20]],
                ),
                Form(
                    f"{title} palette",
                    tiff(
                        2,
                        1,
                        [b"\0\1"],
                        (8,),
                        3,
                        **ways,
                        tags={
                            320: (
                                3,
                                [
                                    2560,
                                    10240,
                                    *[0] * 254,
                                    5120,
                                    12800,
                                    *[0] * 254,
                                    7680,
                                    15360,
                                    *[0] * 254,
                                ],
                            )
                        },
                    ),
                    _TWO_SHOWN,
                ),
                Form(
                    f"{title} palette of 8 bits",
                    tiff(
                        2,
                        1,
                        [b"\0\1"],
                        (8,),
                        3,
                        **ways,
                        tags={
                            320: (3, [10, 40, *[0] * 254, 20, 50, *[0] * 254, 30, 60, *[0] * 254])
                        },
                    ),
                    _TWO_SHOWN,
                ),
                Form(
                    f"{title} CMYK",
                    tiff(1, 1, [b"\0\xff\xff\0"], (8,) * 4, 5, **ways),
                    [[(255, 0, 0)]],
                ),
                Form(
                    f"{title} 16-bit CMYK",
                    tiff(2, 1, [in_order(inks, "u2", big=big)], (16,) * 4, 5, **ways),
                    [[(255, 0, 0), (127, 255, 255)]],
                ),
                Form(
                    f"{title} CIELab",
                    tiff(2, 1, [b"\x80\0\0\xff\0\0"], (8,) * 3, 8, **ways),
                    [[(119, 119, 119), (255, 255, 255)]],
                ),
                Form(
                    f"{title} YCbCr",
                    tiff(
                        2,
                        1,
                        [b"\x80\x80\x80\x40\x80\x80"],
                        (8,) * 3,
                        6,
                        **ways,
                        tags={530: (3, [1, 1])},
                    ),
                    [[(128, 128, 128), (64, 64, 64)]],
                ),
                Form(
                    f"{title} upside down, with odd resolutions",
                    tiff(
                        1,
                        2,
                        [b"\1\2"],
                        **ways,
                        tags={
                            274: (3, [3]),
                            282: _ODD_RESOLUTION,
                            283: (10, struct.pack("<ii", -1, 0)),
                            296: (3, [3]),
                        },
                    ),
                    [[2], [1]],
                ),
                Form(
                    f"{title} 16-bit RGB in tiles, turned",
                    tiff(
                        17,
                        1,
                        [
                            in_order([257 * (1 + tile)] * 16 * 16 * 3, "u2", big=big)
                            for tile in range(2)
                        ],
                        (16,) * 3,
                        2,
                        **ways,
                        tags={274: (3, [6]), 322: (4, [16]), 323: (4, [16])},
                    ),
                    [[(1, 1, 1)]] * 16 + [[(2, 2, 2)]],
                ),
            ]
    return forms


def _pngs() -> list[Form]:
    words = struct.pack
    deep = words(">6H", 0, 0x0101, 0xFFFF, 0x8000, 0x7FFF, 0x0180)
    return [
        Form(
            "png 1 bit, black hidden",
            png(8, 1, 1, 0, [b"\x0f"], (b"tRNS", words(">H", 0))),
            [[255] * 8],
        ),
        Form(
            "png 2 bits, a grey hidden",
            png(4, 1, 2, 0, [b"\x1b"], (b"tRNS", words(">H", 2))),
            [[0, 85, 255, 255]],
        ),
        Form(
            "png 4 bits, a grey hidden",
            png(2, 1, 4, 0, [b"\x3f"], (b"tRNS", words(">H", 3))),
            [[255, 255]],
        ),
        Form(
            "png 4 bits, another hidden",
            png(2, 1, 4, 0, [b"\x35"], (b"tRNS", words(">H", 5))),
            [[51, 255]],
        ),
        Form(
            "png 8 bits, a grey hidden",
            png(2, 1, 8, 0, [b"\x05\x07"], (b"tRNS", words(">H", 7))),
            [[5, 255]],
        ),
        Form(
            "png 8 bits, low bits tell",
            png(2, 1, 8, 0, [b"\x05\x07"], (b"tRNS", words(">H", 0x107))),
            [[5, 255]],
        ),
        Form(
            "png 16 bits",
            png(4, 1, 16, 0, [words(">4H", 0, 257, 32768, 65535)]),
            [[0, 1, 128, 255]],
        ),
        Form(
            "png 16 bits, a grey hidden",
            png(3, 1, 16, 0, [words(">3H", 0x0100, 0x0101, 65535)], (b"tRNS", words(">H", 0x0100))),
            [[255, 1, 255]],
        ),
        Form(
            "png RGB, a colour hidden",
            png(2, 1, 8, 2, [_TWO_RGB], (b"tRNS", words(">3H", 40, 50, 60))),
            [[(10, 20, 30), (255, 255, 255)]],
        ),
        Form("png 16-bit RGB", png(2, 1, 16, 2, [deep]), [[(0, 1, 255), (128, 127, 1)]]),
        Form(
            "png 16-bit RGB, a colour hidden by its low bytes",
            png(
                2,
                1,
                16,
                2,
                [words(">6H", 257, 514, 65535, 257, 514, 65534)],
                (b"tRNS", words(">3H", 257, 514, 65534)),
            ),
            [[(1, 2, 255), (255, 255, 255)]],
        ),
        # Two pixels beside each other are in the first and in the sixth pass.
        Form(
            "png 16-bit RGB, interlaced",
            png(2, 1, 16, 2, [deep[:6], deep[6:]], interlaced=True),
            [[(0, 1, 255), (128, 127, 1)]],
        ),
        Form(
            "png 16-bit grey and alpha, interlaced",
            png(2, 1, 16, 4, [words(">2H", 257, 65535), words(">2H", 9, 0)], interlaced=True),
            [[1, 255]],
        ),
        Form(
            "png 16-bit RGBA",
            png(2, 1, 16, 6, [words(">8H", 257, 514, 65535, 65535, 9, 9, 9, 0)]),
            [[(1, 2, 255), (255, 255, 255)]],
        ),
        Form(
            "png 16-bit grey and alpha",
            png(3, 1, 16, 4, [words(">6H", 257, 65535, 65535, 65535, 9, 0)]),
            [[1, 255, 255]],
        ),
        Form(
            "png palette with alpha",
            png(
                3,
                1,
                8,
                3,
                [b"\0\1\2"],
                (b"PLTE", b"\xff\0\0\0\0\xff\0\0\0"),
                (b"tRNS", b"\xff\0\x66"),
            ),
            [[(255, 0, 0), (255, 255, 255), (153, 153, 153)]],
        ),
        Form(
            "png palette of greys",
            png(2, 1, 8, 3, [b"\0\1"], (b"PLTE", b"\7\7\7\x63\x63\x63")),
            [[7, 99]],
        ),
        Form(
            "png RGBA",
            png(2, 1, 8, 6, [b"\x0a\x14\x1e\xff\x28\x32\x3c\0"]),
            [[(10, 20, 30), (255, 255, 255)]],
        ),
        Form(
            "png gamma is left alone",
            png(2, 1, 8, 0, [b"\x28\x50"], (b"gAMA", words(">I", 100000))),
            [[40, 80]],
        ),
        Form(
            "png significant bits are left alone",
            png(2, 1, 16, 0, [words(">2H", 257, 65535)], (b"sBIT", b"\x0c")),
            [[1, 255]],
        ),
        Form("png odd EXIF", png(2, 1, 8, 0, [b"\1\2"], (b"eXIf", ODD_EXIF)), [[2, 1]]),
        Form(
            "png profile",
            png(2, 1, 8, 2, [b"\xc8\0\0\0\x64\0"], _ICC),
            [[(0, 200, 0), (100, 0, 0)]],
        ),
        Form(
            "png profile and alpha",
            png(2, 1, 8, 6, [b"\xc8\0\0\xff\0\x64\0\0"], _ICC),
            [[(0, 200, 0), (255, 255, 255)]],
        ),
        Form(
            "png profile and a palette",
            png(2, 1, 8, 3, [b"\0\1"], _ICC, (b"PLTE", b"\xc8\0\0\0\x64\0")),
            [[(0, 200, 0), (100, 0, 0)]],
        ),
        Form(
            "png profile and 16 bits",
            png(1, 1, 16, 2, [words(">3H", 257 * 200, 0, 0)], _ICC),
            [[(0, 200, 0)]],
        ),
        Form(
            "png sRGB by its own profile",
            png(2, 1, 8, 2, [_TWO_RGB], (b"iCCP", b"x\0\0" + zlib.compress(matrix_profile()))),
            _TWO_SHOWN,
        ),
        Form(
            "png linear grey",
            png(3, 1, 8, 0, [b"\0\x80\xff"], (b"iCCP", b"x\0\0" + zlib.compress(grey_profile()))),
            [[0, 188, 255]],
        ),
    ]


def _others() -> list[Form]:
    alpha_fields = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    two_bgra = b"\x1e\x14\x0a\0\x3c\x32\x28\0"
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    small = bytearray(saved(np.array([[10, 20]], np.uint8), "GIF"))
    small[6:10] = struct.pack("<HH", 3, 1)
    half = np.zeros((1, 2, 4), np.uint8)
    half[0] = [(10, 20, 30, 255), (40, 50, 60, 0)]
    press = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    broken_mpf = saved(_HALVES, "JPEG", quality=100)
    note = b"MPF\0MM\0*\0\0\0\x08\0\1\xb0\1\0\4\0\0\0\1\0\0\0\2\0\0\0\0"
    broken_mpf = (
        broken_mpf[:2] + b"\xff\xe2" + struct.pack(">H", len(note) + 2) + note + broken_mpf[2:]
    )
    return [
        Form("bmp alpha of zeros", bmp(2, 1, two_bgra, alpha_fields), _TWO_SHOWN),
        Form(
            "bmp alpha",
            bmp(2, 1, b"\x1e\x14\x0a\xff\x3c\x32\x28\0", alpha_fields),
            [[(10, 20, 30), (255, 255, 255)]],
        ),
        Form(
            "bmp alpha first, of zeros",
            bmp(1, 1, b"\0\x1e\x14\x0a", (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
            [[(10, 20, 30)]],
        ),
        Form("bmp without masks", bmp(2, 1, two_bgra, (0, 0, 0, 0)), _TWO_SHOWN),
        Form("bmp padding", bmp(2, 1, two_bgra, (0xFF0000, 0xFF00, 0xFF, 0)), _TWO_SHOWN),
        Form(
            "bmp 5-6-5",
            bmp(2, 1, struct.pack("<HH", 0xF800, 0x001F), (0xF800, 0x7E0, 0x1F, 0), 16),
            [[(255, 0, 0), (0, 0, 255)]],
        ),
        Form(
            "gif transparent",
            saved(palette, "GIF", transparency=1),
            [[(255, 0, 0), (255, 255, 255)]],
        ),
        Form(
            "gif grey, one hidden",
            saved(np.array([[10, 20]], np.uint8), "GIF", transparency=20),
            [[10, 255]],
        ),
        Form("gif with a small first frame", bytes(small), [[10, 20, 255]]),
        Form(
            "webp transparent",
            saved(half, "WEBP", lossless=True, exact=True),
            [[(10, 20, 30), (255, 255, 255)]],
        ),
        Form(
            "webp profile",
            saved(np.array([[(200, 0, 0)]], np.uint8), "WEBP", lossless=True, icc_profile=SWAPPED),
            [[(0, 200, 0)]],
        ),
        Form(
            "webp odd EXIF",
            saved(
                np.array([[(1, 1, 1), (2, 2, 2)]], np.uint8), "WEBP", lossless=True, exif=ODD_EXIF
            ),
            [[(2, 2, 2), (1, 1, 1)]],
        ),
        Form(
            "jpeg odd EXIF",
            saved(_HALVES, "JPEG", quality=100, exif=b"Exif\0\0" + ODD_EXIF),
            _HALVES_TURNED,
        ),
        Form("jpeg with a broken list of pictures", broken_mpf, _HALVES.tolist()),
        Form(
            "jpeg linear grey",
            saved(np.full((8, 8), 128, np.uint8), "JPEG", quality=100, icc_profile=grey_profile()),
            [[188] * 8] * 8,
        ),
        Form(
            "jpeg grey of a colour profile",
            saved(np.full((8, 8), 128, np.uint8), "JPEG", quality=100, icc_profile=SWAPPED),
            [[128] * 8] * 8,
        ),
        Form(
            "jpeg press",
            saved(press, "JPEG", quality=100, icc_profile=press_profile()),
            [[(119, 119, 119)] * 8] * 8,
        ),
        Form(
            "tiff press",
            saved(press, "TIFF", icc_profile=press_profile()),
            [[(119, 119, 119)] * 8] * 8,
        ),
        Form(
            "tiff deflated YCbCr, subsampled",
            tiff(2, 2, [b"\x10\x20\x30\x40\x80\x80"], (8,) * 3, 6, packed=True),
            [[(16, 16, 16), (32, 32, 32)], [(48, 48, 48), (64, 64, 64)]],
        ),
        Form(
            "tiff of JPEG",
            saved(np.full((8, 8, 3), 128, np.uint8), "TIFF", compression="jpeg"),
            [[(128, 128, 128)] * 8] * 8,
        ),
        Form(
            "tiff of JPEG, grey",
            saved(np.full((8, 8), 128, np.uint8), "TIFF", compression="jpeg"),
            [[128] * 8] * 8,
        ),
        Form(
            "tiff of LZW",
            saved(np.array([[0, 257, 65535]], np.uint16), "TIFF", compression="tiff_lzw"),
            [[0, 1, 255]],
        ),
        Form("tiff of differences", tiff_predicted(), [[1, 2, 4, 255]]),
        Form(
            "tiff palette of 4 bits",
            tiff(
                2,
                1,
                [b"\x01"],
                (4,),
                3,
                tags={
                    320: (
                        3,
                        [2560, 10240, *[0] * 14, 5120, 12800, *[0] * 14, 7680, 15360, *[0] * 14],
                    )
                },
            ),
            _TWO_SHOWN,
        ),
        Form(
            "tiff palette of 1 bit",
            tiff(
                2, 1, [b"\x40"], (1,), 3, tags={320: (3, [2560, 10240, 5120, 12800, 7680, 15360])}
            ),
            _TWO_SHOWN,
        ),
        Form(
            "avif",
            saved(np.full((8, 8, 3), 128, np.uint8), "AVIF", quality=100, subsampling="4:4:4"),
            [[(128, 128, 128)] * 8] * 8,
        ),
    ]


FORMS = [*_deep_tiffs(), *_plain_tiffs(), *_pngs(), *_others()]
"""Together they leave no doubt of what is white: each kind's largest value occurs."""

TWELVE_BITS = [
    Form(
        "png 12 of 16 bits", png(3, 1, 16, 0, [struct.pack(">3H", 0, 2048, 4095)]), [[0, 128, 255]]
    ),
    Form(
        "png 12 of 16 bits, dark", png(3, 1, 16, 0, [struct.pack(">3H", 0, 16, 161)]), [[0, 1, 10]]
    ),
    Form(
        "png 12 of 16 bits, colours",
        png(1, 1, 16, 2, [struct.pack(">3H", 16, 2048, 4095)]),
        [[(1, 128, 255)]],
    ),
    Form(
        "png 12 of 16 bits, white hidden",
        png(2, 1, 16, 0, [struct.pack(">2H", 16, 65535)], (b"tRNS", b"\xff\xff")),
        [[1, 255]],
    ),
    Form(
        "png 12 of 16 bits, opaque",
        png(2, 1, 16, 4, [struct.pack(">4H", 16, 65535, 4095, 65535)]),
        [[1, 255]],
    ),
    Form(
        "tiff 12 of 16 bits, white is zero",
        tiff(3, 1, [in_order([0, 2048, 4095], "u2")], (16,), 0),
        [[255, 127, 0]],
    ),
    Form("tiff 12 of 32 bits", tiff(2, 1, [in_order([16, 4095], "u4")], (32,)), [[1, 255]]),
    Form("tiff 12 of 12 bits", tiff(2, 1, [bytes((0x01, 0x0F, 0xFF))], (12,)), [[1, 255]]),
    Form("png of 8 bits beside them", png(2, 1, 8, 0, [b"\1\xff"]), [[1, 255]]),
]
"""With ``data.white_level: 4095``."""
