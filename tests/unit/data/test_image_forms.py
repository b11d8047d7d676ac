"""Every form of image file, against pixels that are written down."""

from __future__ import annotations

import numpy as np
import pytest

from graftline.core.records import WhiteLevels
from graftline.data.decoding import decode
from graftline.data.white_levels import Survey, rule_of
from tests.unit.data.image_forms import FORMS, TWELVE_BITS

MAX_PX = 10_000


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_what_a_file_shows(form):
    pixels = decode(form.data, MAX_PX, white=Survey(None).white)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, form.pixels)


@pytest.mark.parametrize("form", TWELVE_BITS, ids=lambda form: form.name)
def test_what_a_file_shows_by_a_white_level(form):
    for white in (Survey(4095).white, rule_of(WhiteLevels(level=4095, kinds=("16-bit",)))):
        np.testing.assert_array_equal(decode(form.data, MAX_PX, white=white), form.pixels)
