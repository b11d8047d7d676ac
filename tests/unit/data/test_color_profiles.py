"""Colours by an embedded ICC profile; what each form of file shows is in test_image_forms."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from graftline.data import color_profiles
from graftline.data.color_profiles import to_srgb
from graftline.data.decoding import collected_warnings, decode, named
from tests.unit.data.image_forms import SWAPPED, grey_profile, matrix_profile, png, press_profile
from tests.unit.data.loading import encoded

MAX_PX = 1_000_000
RED = np.array([[(200, 0, 0), (0, 100, 0)]], np.uint8)
GREEN = [[(0, 200, 0), (100, 0, 0)]]


def shown(profile: bytes, image: np.ndarray = RED, kind: str = "PNG") -> tuple[list, list[str]]:
    with collected_warnings() as collected, named("file"):
        pixels = decode(encoded(image, kind, icc_profile=profile), MAX_PX)
    return pixels.tolist(), [text for _, text in collected]


def test_colours_are_converted() -> None:
    assert shown(SWAPPED)[0] == [[list(color) for color in GREEN[0]]]


@pytest.mark.parametrize("profile", [
    matrix_profile(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
])  # fmt: skip
def test_srgb_by_any_name_leaves_pixels_as_they_are(profile: bytes) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    pixels, warned = shown(profile, image)
    np.testing.assert_array_equal(pixels, image)
    assert warned == []


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (b"no profile", "it cannot be used"),
        (SWAPPED[:200], "it cannot be used"),
        (press_profile(), "it is made for CMYK, not for this image"),
        (grey_profile(), "it is made for GRAY, not for this image"),
    ],
)
def test_a_profile_that_cannot_be_used_is_left_out_and_told_each_time(
    profile: bytes, words: str
) -> None:
    for _ in range(2):
        pixels, warned = shown(profile)
        assert pixels == RED.tolist()
        assert len(warned) == 1
        assert words in warned[0]


def test_a_profile_of_many_bytes_is_left_out() -> None:
    pixels, warned = shown(SWAPPED + bytes(5 << 20), kind="TIFF")
    assert pixels == RED.tolist()
    assert "more than 4194304" in warned[0]


def test_a_text_that_calls_itself_a_profile_is_none() -> None:
    data = png(2, 1, 8, 2, [RED.tobytes()], (b"tEXt", b"icc_profile\0text"))
    np.testing.assert_array_equal(decode(data, MAX_PX), RED)


def test_a_profile_that_is_not_deflated_is_left_out() -> None:
    data = png(2, 1, 8, 2, [RED.tobytes()], (b"iCCP", b"x\0\0" + zlib.compress(SWAPPED)[:9]))
    np.testing.assert_array_equal(decode(data, MAX_PX), RED)


def test_threads_share_a_conversion() -> None:
    image = np.random.default_rng(1).integers(0, 256, (300, 200, 3), np.uint8)
    profile = matrix_profile((2, 0, 1))
    alone = np.asarray(to_srgb(Image.fromarray(image), profile))
    color_profiles._conversion.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        for together in pool.map(lambda _: to_srgb(Image.fromarray(image), profile), range(64)):
            np.testing.assert_array_equal(np.asarray(together), alone)


@given(st.sampled_from([SWAPPED, grey_profile(), press_profile()]), st.data())
def test_altered_profiles_are_used_or_left_out(profile: bytes, data: st.DataObject) -> None:
    altered = bytearray(profile)
    for _ in range(data.draw(st.integers(1, 8))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    for mode in ("L", "RGB", "CMYK"):
        with collected_warnings():
            converted = to_srgb(Image.new(mode, (3, 2)), bytes(altered))
        assert (converted.mode, converted.size) == ("L" if mode == "L" else "RGB", (3, 2))
