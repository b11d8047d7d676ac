"""Opening image files: Pillow's readers, kept from what they read wrong or stumble over."""

from __future__ import annotations

import io
import threading

from PIL import Image, ImageFile, ImagePalette, TiffImagePlugin, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from graftline.core.errors import DataError
from graftline.core.installing import extra_command
from graftline.data import tiff_tags
from graftline.data.tiff_tags import TiffSamples, samples_of

_JPEG = b"\xff\xd8\xff"
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF_BRANDS = {b"avif", b"avis"}
_MOST_BRANDS_BYTES = 256
_OPENING = threading.Lock()


def opened(data: bytes, formats: tuple[str, ...], max_px: int, limit: str) -> ImageFile.ImageFile:
    """Reads a file's header.

    Args:
        data: The file's bytes.
        formats: What may be read, as Pillow calls it.
        max_px: The largest allowed width x height.
        limit: What sets that, for the error.

    Raises:
        DataError: If it is no image of a known format, or too large a one.
    """
    # Pillow's own limit holds for the whole process and merely warns up to twice its value. It is
    # off for as long as a header is read, under a lock; ours is checked before anything is decoded.
    with _OPENING:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = _image(data, formats)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    width, height = image.size
    if width * height > max_px:
        raise DataError(
            f"has {width} x {height} = {width * height} pixels, more than {max_px} ({limit})"
        )
    return image


class Tiff(TiffImageFile):
    """A TIFF's first page, as its tags tell; neither turned nor brought to 8 bits.

    Attributes:
        samples: What a pixel consists of.
        is_big_endian: The order of its bytes.
    """

    samples: TiffSamples
    is_big_endian: bool

    # Pillow names them so; what it does here it does at the wrong moment.
    def _setup(self) -> None:
        tags = self.tag_v2
        self.is_big_endian = tags.prefix == TiffImagePlugin.MM
        self.samples = samples_of(tags, self.is_big_endian, tags.next)
        # Resolutions may be anything, and nothing here needs them.
        unused = {TiffImagePlugin.X_RESOLUTION, TiffImagePlugin.Y_RESOLUTION}
        if self.samples.colors + self.samples.beside == 1:
            # Pillow would take the first letter of a raw mode for a plane's own.
            unused.add(tiff_tags.PLANAR)
        for tag in unused & set(tags):
            del tags[tag]
        if self.samples.deep is not None:
            self._read_as_stored()
        try:
            super()._setup()
        except SyntaxError as error:
            raise tiff_tags.unreadable(tags, error) from error
        self._correct_raw_mode()
        # Swapped already for some orientations, though the pixels are not.
        self._size = self._tile_size

    def _read_as_stored(self) -> None:
        """Asks for the bare samples: Pillow knows few of their kinds, and needs but their size."""
        tags, deep = self.tag_v2, self.samples.deep
        if self.samples.white_is_zero:
            tags[tiff_tags.PHOTOMETRIC] = 1
        if deep is not None and deep.dtype == "f2":
            tags[tiff_tags.FORMAT] = (1,)
        if deep is not None and deep.dtype == "u4" and self.is_big_endian:
            tags[tiff_tags.FORMAT] = (2,)

    def _correct_raw_mode(self) -> None:
        if not self.use_load_libtiff:
            return
        # Libtiff gives samples in this machine's order; Pillow expects the file's.
        native = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
        self.tile = [
            with_raw_mode(tile, native.get(raw_mode(tile), raw_mode(tile))) for tile in self.tile
        ]

    def load_prepare(self) -> None:
        """Makes room for the pixels, with no limit of Pillow's own."""
        ImageFile.ImageFile.load_prepare(self)

    def load_end(self) -> None:
        """Leaves the orientation alone, and the other tags of EXIF."""
        if self.mode in ("P", "PA") and tiff_tags.has_8_bit_color_map(self.tag_v2):
            colors = bytes(self.tag_v2[TiffImagePlugin.COLORMAP])
            self.palette = ImagePalette.raw("RGB;L", colors)
            self.im.putpalette("RGB", "RGB;L", colors)


class _Jpeg(JpegImageFile):
    """A JPEG without the other pictures that its file may hold, and without its resolution."""

    def _read_dpi_from_exif(self) -> None:
        pass


def raw_mode(tile: ImageFile._Tile) -> str:
    """What a decoder is told of the samples' layout."""
    return str(tile.args[0] if isinstance(tile.args, tuple) else tile.args)


def with_raw_mode(tile: ImageFile._Tile, name: str) -> ImageFile._Tile:
    """The same part of an image, its samples taken for others."""
    return tile._replace(args=(name, *tile.args[1:]) if isinstance(tile.args, tuple) else name)


def _image(data: bytes, formats: tuple[str, ...]) -> ImageFile.ImageFile:
    if data.startswith(_JPEG):
        return _opened_by(_Jpeg, data)
    if data.startswith(tuple(TiffImagePlugin.PREFIXES)):
        return _opened_by(Tiff, data)
    brands = _brands(data)
    if brands & _HEIC_BRANDS and not brands & _AVIF_BRANDS:
        return _heic(data)
    try:
        return Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError as error:
        if brands & _AVIF_BRANDS and not _reads_avif():
            raise DataError(
                "is an AVIF image, which the installed Pillow cannot read; install Pillow 11.3 or "
                "later, or convert it to PNG or JPEG"
            ) from error
        raise DataError(f"is no image of a known kind ({', '.join(formats)})") from error


def _opened_by(reader: type[ImageFile.ImageFile], data: bytes) -> ImageFile.ImageFile:
    try:
        return reader(io.BytesIO(data))
    except SyntaxError as error:
        raise DataError(f"cannot be decoded: {error}") from error


def _brands(data: bytes) -> set[bytes]:
    """The kinds that a file of the family of MP4 says it is of."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), _MOST_BRANDS_BYTES)
    return {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}


def _reads_avif() -> bool:
    from PIL import features

    return bool(features.check("avif"))


def _heic(data: bytes) -> ImageFile.ImageFile:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise DataError(
            f"is a HEIC image, which needs the extra heif: {extra_command('heif')}; or convert "
            "it to JPEG or PNG"
        ) from error
    return _opened_by(HeifImageFile, data)
