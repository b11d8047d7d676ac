from __future__ import annotations

import io
import struct
import sys
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from graftline.core.errors import DataError
from graftline.data.decoding import collected_warnings, content_hash, decode, named
from graftline.data.white_levels import Survey
from tests.unit.data.image_forms import exif, in_order, tiff
from tests.unit.data.loading import encoded, pixels

MAX_PX = 1_000_000
REFERENCE = struct.pack("<12I", 15, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1)


def reason(data: bytes, max_px: int = MAX_PX) -> str:
    with pytest.raises(DataError) as caught:
        decode(data, max_px)
    return caught.value.what


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_grey_keeps_one_channel(kind):
    image = pixels(1)
    np.testing.assert_array_equal(decode(encoded(image, kind), MAX_PX), image[..., None])


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_colour_has_three_channels(kind):
    image = pixels(1, (6, 8, 3))
    np.testing.assert_array_equal(decode(encoded(image, kind), MAX_PX), image)


def test_lossless_webp():
    image = pixels(1, (6, 8, 3))
    data = encoded(image, "WEBP", lossless=True)
    np.testing.assert_array_equal(decode(data, MAX_PX), image)


def test_jpeg_is_decoded_at_full_size():
    smooth = np.linspace(0, 255, 64 * 48).reshape(48, 64).astype(np.uint8)
    decoded = decode(encoded(smooth, "JPEG", quality=95), MAX_PX)
    assert decoded.shape == (48, 64, 1)
    assert np.abs(decoded[..., 0].astype(int) - smooth).max() <= 8


def test_bilevel_is_black_and_white():
    data = encoded(Image.fromarray(pixels(1)).convert("1"))
    assert set(np.unique(decode(data, MAX_PX))) == {0, 255}


def test_palette_becomes_its_colours():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert decode(encoded(image), MAX_PX).tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_transparent_palette_shows_white():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    data = encoded(image, transparency=1)
    assert decode(data, MAX_PX).tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_transparency_is_laid_over_white():
    image = Image.new("RGBA", (3, 1))
    for place, colour in enumerate([(200, 0, 0, 255), (200, 0, 0, 0), (0, 0, 0, 128)]):
        image.putpixel((place, 0), colour)
    decoded = decode(encoded(image), MAX_PX)[0].tolist()
    assert decoded[:2] == [[200, 0, 0], [255, 255, 255]]
    assert decoded[2] == pytest.approx([127, 127, 127], abs=1)


def test_transparent_grey_stays_grey():
    image = Image.new("LA", (2, 1))
    image.putpixel((0, 0), (90, 255))
    image.putpixel((1, 0), (90, 0))
    assert decode(encoded(image), MAX_PX).tolist() == [[[90], [255]]]


def test_transparent_grey_value_shows_white():
    image = Image.fromarray(np.array([[10, 20]], np.uint8))
    assert decode(encoded(image, transparency=20), MAX_PX).tolist() == [[[10], [255]]]


def test_transparent_colour_value_shows_white():
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    data = encoded(image, transparency=(4, 5, 6))
    assert decode(data, MAX_PX).tolist() == [[[1, 2, 3], [255, 255, 255]]]


def test_cmyk():
    image = Image.new("CMYK", (1, 1), (0, 255, 255, 0))
    assert decode(encoded(image, "TIFF"), MAX_PX).tolist() == [[[255, 0, 0]]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(kind):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    decoded = decode(encoded(Image.fromarray(values), kind), MAX_PX)
    assert decoded[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_big_endian_16_bit_grey():
    values = np.array([[0, 257, 65535]], ">u2")
    image = Image.frombytes("I;16B", (3, 1), values.tobytes())
    assert decode(encoded(image, "TIFF"), MAX_PX)[0, :, 0].tolist() == [0, 1, 255]


def test_a_single_image_of_few_bits_is_refused_where_no_training_images_tell():
    words = reason(encoded(np.array([[0, 4095]], np.uint16)))
    assert "is a 16-bit image whose largest value is 4095" in words
    assert "data.white_level" in words


def test_a_single_image_of_floating_point_numbers_is_refused_where_no_training_images_tell():
    words = reason(encoded(np.array([[0.0, 1.0]], np.float32), "TIFF"))
    assert "is a floating-point image whose largest value is 1" in words


def test_black_is_black_by_every_rule():
    assert decode(encoded(np.zeros((1, 2), np.uint16)), MAX_PX).tolist() == [[[0], [0]]]


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_floating_point_grey_that_is_no_light_is_refused(value):
    data = encoded(np.array([[0.0, value]], np.float32), "TIFF")
    with pytest.raises(DataError, match="below 0 is no light"):
        decode(data, MAX_PX, white=Survey(None).white)


def test_signed_grey_below_0_is_refused():
    data = tiff(2, 1, [in_order([-1, 5], "i2")], (16,), tags={339: (3, [2])})
    assert "has signed 16-bit values from -1 to 5" in reason(data)


REFUSED_TIFFS = {
    "without photometric interpretation": (tiff(1, 1, [b"a"], photometric=None), "PhotometricInt"),
    "64-bit float": (
        tiff(1, 1, [bytes(8)], (64,), tags={339: (3, [3])}),
        "1 sample of 64 bits, floating-point, grey, black is zero",
    ),
    "64-bit integer": (tiff(1, 1, [bytes(8)], (64,)), "64 bits, unsigned"),
    "10 bits": (tiff(4, 1, [bytes(5)], (10,)), "10 bits"),
    "14 bits": (tiff(4, 1, [bytes(7)], (14,)), "14 bits"),
    "12 bits, big-endian": (tiff(2, 1, [bytes(3)], (12,), big=True), "little-endian"),
    "16-bit RGB in planes": (
        tiff(1, 1, [b"ab"] * 3, (16,) * 3, 2, tags={284: (3, [2])}),
        "3 samples of 16 bits, unsigned, RGB in separate planes",
    ),
    "16-bit RGB in deflated planes": (
        tiff(1, 1, [b"ab"] * 3, (16,) * 3, 2, packed=True, tags={284: (3, [2])}),
        "separate planes",
    ),
    "grey and alpha in planes": (
        tiff(1, 1, [b"a"] * 2, (8, 8), packed=True, tags={284: (3, [2]), 338: (3, [2])}),
        "separate planes",
    ),
    "associated alpha in planes": (
        tiff(1, 1, [b"a"] * 4, (8,) * 4, 2, packed=True, tags={284: (3, [2]), 338: (3, [1])}),
        "associated alpha",
    ),
    "16-bit grey and alpha": (
        tiff(1, 1, [bytes(4)], (16, 16), tags={338: (3, [2])}),
        "2 samples of 16 bits",
    ),
    "float RGB": (tiff(1, 1, [bytes(12)], (32,) * 3, 2, tags={339: (3, [3] * 3)}), "RGB"),
    "signed RGB": (tiff(1, 1, [bytes(3)], (8,) * 3, 2, tags={339: (3, [2] * 3)}), "signed, RGB"),
    "5-6-5": (tiff(1, 1, [bytes(2)], (5, 6, 5), 2), "5/6 bits"),
    "16-bit Lab": (tiff(1, 1, [bytes(6)], (16,) * 3, 8), "CIELab"),
    "ICC Lab": (tiff(1, 1, [bytes(3)], (8,) * 3, 9), "ICCLab"),
    "camera raw": (tiff(1, 1, [bytes(2)], (16,), 32803), "colour filter array"),
    "other inks": (tiff(1, 1, [bytes(4)], (8,) * 4, 5, tags={332: (3, [2])}), "inks"),
    "subsampled YCbCr": (tiff(2, 2, [bytes(6)], (8,) * 3, 6), "subsampling"),
    "YCbCr by other coefficients": (
        tiff(1, 1, [bytes(3)], (8,) * 3, 6, tags={530: (3, [1, 1]), 532: (5, REFERENCE)}),
        "usual coefficients",
    ),
    "more extra samples than samples": (
        tiff(1, 1, [bytes(3)], (8,) * 3, 2, tags={338: (3, [0, 0])}),
        "extra samples",
    ),
    "complex": (tiff(1, 1, [bytes(4)], (32,), tags={339: (3, [5])}), "format 5"),
    "a reduced copy": (tiff(1, 1, [b"a"], tags={254: (4, [1]), 330: (4, [8])}), "reduced copy"),
}


@pytest.mark.parametrize("name", REFUSED_TIFFS)
def test_a_tiff_that_is_not_read_is_refused_by_what_it_holds(name):
    data, words = REFUSED_TIFFS[name]
    assert words in reason(data)


def test_a_tiff_that_is_not_read_says_what_to_do():
    assert "convert it to PNG" in reason(REFUSED_TIFFS["10 bits"][0])


def test_a_thumbnail_alone_is_an_image():
    assert decode(tiff(1, 1, [b"a"], tags={254: (4, [1])}), MAX_PX).tolist() == [[[97]]]


def test_the_first_page_of_a_tiff():
    first, second = Image.fromarray(pixels(1)), Image.fromarray(pixels(2))
    data = encoded(first, "TIFF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(data, MAX_PX)[..., 0], pixels(1))


@pytest.mark.parametrize("entry", [(3, 1, b"\0\x09\0\0"), (3, 1, bytes(4)), (2, 2, b"6\0\0\0")])
def test_a_broken_orientation_is_none(entry):
    kind, count, value = entry
    note = exif((0x0112, kind, count, value))
    image = pixels(1, (4, 6))
    data = encoded(image, "PNG", exif=note)
    np.testing.assert_array_equal(decode(data, MAX_PX)[..., 0], image)


@given(entries=st.lists(st.tuples(st.integers(0x100, 0xFFFF), st.integers(0, 13), st.integers(0, 9),
                                  st.binary(min_size=4, max_size=4)), max_size=6),
       beyond=st.binary(max_size=40), cut=st.integers(0, 30))  # fmt: skip
def test_no_other_tag_of_exif_matters(entries, beyond, cut):
    others = [entry for entry in entries if entry[0] != 0x0112]
    note = exif((0x0112, 3, 1, b"\0\x03\0\0"), *others, beyond=beyond)
    note = note[: max(22, len(note) - cut)]
    image = pixels(1, (4, 6))
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        data = encoded(np.repeat(image[..., None], 3, 2), kind, exif=note, **options)
        with collected_warnings():
            np.testing.assert_array_equal(decode(data, MAX_PX)[..., 0], image[::-1, ::-1])


def test_orientation_that_only_xmp_tells():
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="3"/></x:xmpmeta>'
    image = pixels(1, (4, 6, 3))
    data = encoded(image, "WEBP", lossless=True, xmp=xmp)
    np.testing.assert_array_equal(decode(data, MAX_PX), image[::-1, ::-1])


def test_heic_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(100)
    assert "-m pip install 'graftline[heif]'" in reason(data)


def test_a_broken_avif_is_refused():
    data = encoded(np.full((16, 16, 3), 9, np.uint8), "AVIF")
    assert "cannot be decoded" in reason(data[:-40])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation, kind):
    image = pixels(1, (4, 6, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = decode(encoded(image, kind, exif=exif, **options), MAX_PX)
    turn = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a),
    }
    np.testing.assert_array_equal(decoded, turn[orientation](image))


def test_exif_orientation_of_a_jpeg():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(pixels(1, (4, 6)), "JPEG", exif=exif), MAX_PX).shape == (6, 4, 1)


def test_first_frame_of_an_animation():
    first, second = Image.fromarray(pixels(1)), Image.fromarray(pixels(2))
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(data, MAX_PX)[..., 0], pixels(1))


def test_an_empty_file():
    assert reason(b"") == "the file is empty (0 bytes)"


def test_text_is_no_image():
    assert "is no image of a known kind (PNG, JPEG, GIF, BMP, WEBP, TIFF, AVIF)" in reason(
        b"hello, world"
    )


def test_other_kinds_are_not_opened():
    assert "no image of a known kind" in reason(encoded(pixels(1), "PPM"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_a_truncated_file(kind):
    data = encoded(pixels(1, (64, 64, 3)), kind)
    assert reason(data[: len(data) * 2 // 3])


def test_a_truncated_jpeg_tells_so():
    data = encoded(pixels(1, (64, 64)), "JPEG")
    assert "truncated" in reason(data[:-200])


def test_a_reason_is_the_same_each_time():
    assert reason(b"no image") == reason(b"no image")


def test_flipped_bits_in_a_png_are_noticed():
    data = bytearray(encoded(pixels(1, (32, 32))))
    at = data.index(b"IDAT") + 4 + 300
    data[at] ^= 0xFF
    assert reason(bytes(data))


@pytest.mark.parametrize(("height", "width"), [(10, 11), (10, 100)])
def test_more_pixels_than_allowed(height, width):
    # Up to twice its limit, PIL merely warns.
    words = reason(encoded(np.zeros((height, width), np.uint8)), max_px=100)
    assert f"has {width} x {height} = {width * height} pixels, more than 100" in words
    assert "data.max_image_px" in words


def test_exactly_as_many_pixels_as_allowed():
    assert decode(encoded(np.zeros((10, 10), np.uint8)), max_px=100).shape == (10, 10, 1)


def test_a_bomb_is_refused_by_its_header():
    # 60 000 x 60 000 pixels, which would take 3.6 GB, in a header without any data.
    bomb = encoded(np.zeros((1, 1), np.uint8), "BMP")
    bomb = bomb[:18] + (60_000).to_bytes(4, "little") * 2 + bomb[26:]
    assert "has 60000 x 60000 = 3600000000 pixels" in reason(bomb, max_px=50_000_000)


def test_pils_own_limit_comes_back(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1234)
    decode(encoded(pixels(1)), MAX_PX)
    reason(b"x")
    assert Image.MAX_IMAGE_PIXELS == 1234


def test_a_higher_limit_than_pils_holds(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode(encoded(pixels(1, (40, 40))), MAX_PX).shape == (40, 40, 1)


def test_threads_do_not_disturb_each_other():
    good, large = encoded(pixels(1)), encoded(np.zeros((50, 50), np.uint8))

    def one(number: int) -> bool:
        if number % 2:
            return decode(good, 100).shape == (6, 8, 1)
        return "data.max_image_px" in reason(large, 100)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(400)))


def test_warnings_are_collected_with_their_file():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12"
    data = encoded(pixels(1, (6, 8, 3)), "JPEG", exif=exif)
    with collected_warnings() as collected, ThreadPoolExecutor(2) as pool:

        def one(name: str) -> int:
            with named(name):
                return decode(data, MAX_PX).size

        assert list(pool.map(one, ["a.jpg", "b.jpg"])) == [144, 144]
    assert {name for name, _ in collected} == {"a.jpg", "b.jpg"}
    assert "EXIF" in collected[0][1]


def test_collected_warnings_put_the_filters_back():
    before = list(warnings.filters)
    with collected_warnings():
        pass
    assert warnings.filters == before


def test_hash_depends_on_shape():
    flat = np.zeros((2, 8, 1), np.uint8)
    assert content_hash(flat) != content_hash(flat.reshape(4, 4, 1))
    assert content_hash(flat) != content_hash(np.zeros((2, 8, 3), np.uint8))


def test_hash_does_not_depend_on_the_file_format():
    image = pixels(1, (6, 8, 3))
    hashes = {content_hash(decode(encoded(image, kind), MAX_PX)) for kind in ("PNG", "BMP", "TIFF")}
    assert len(hashes) == 1


SEEDS = [
    encoded(pixels(1)),
    encoded(pixels(1, (6, 8, 3)), "JPEG"),
    encoded(pixels(1), "GIF"),
    encoded(pixels(1, (6, 8, 3)), "BMP"),
    encoded(pixels(1, (6, 8, 3)), "WEBP"),
    encoded(pixels(1), "TIFF"),
    encoded(pixels(1), "TIFF", compression="tiff_lzw"),
]


def decoded_or_refused(data: bytes) -> None:
    try:
        image = decode(data, MAX_PX)
    except DataError as error:
        assert error.what
        assert " at 0x" not in error.what
    else:
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] in (1, 3)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data):
    decoded_or_refused(data)


@given(st.data())
def test_altered_files_are_decoded_or_refused(data):
    altered = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 8))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    decoded_or_refused(bytes(altered[: data.draw(st.integers(1, len(altered)))]))


def test_a_text_bomb_in_a_png_is_refused():
    info = PngImagePlugin.PngInfo()
    info.add_text("k", "x" * 80_000_000, zip=True)
    file = io.BytesIO()
    Image.fromarray(pixels(1)).save(file, "PNG", pnginfo=info)
    assert reason(file.getvalue())


def test_16_bits_take_no_64_bit_copies():
    size = 1000
    data = encoded(np.full((size, size), 65535, np.uint16))
    tracemalloc.start()
    decode(data, MAX_PX)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8 * size * size
