"""The matrices that bring images to the network's size."""

from __future__ import annotations

import numpy as np

from graftline.network.runners.resizing import bilinear


def test_rows_of_the_wanted_size_stay() -> None:
    np.testing.assert_array_equal(bilinear(5, 5), np.eye(5))


def test_values_between_two_centres_are_of_both() -> None:
    expected = [[1, 0.75, 0.25, 0], [0, 0.25, 0.75, 1]]
    np.testing.assert_array_equal(bilinear(2, 4), expected)
    np.testing.assert_array_equal(bilinear(4, 2), np.repeat(np.eye(2), 2, axis=0) / 2)
    np.testing.assert_array_equal(bilinear(1, 3), [[1, 1, 1]])
