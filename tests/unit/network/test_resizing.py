"""The matrices that bring images to the network's size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graftline.network.runners.resizing import bilinear, cut_behind_resizing


def test_rows_of_the_wanted_size_stay() -> None:
    np.testing.assert_array_equal(bilinear(5, 5), np.eye(5))


def test_values_between_two_centres_are_of_both() -> None:
    expected = [[1, 0.75, 0.25, 0], [0, 0.25, 0.75, 1]]
    np.testing.assert_array_equal(bilinear(2, 4), expected)
    np.testing.assert_array_equal(bilinear(4, 2), np.repeat(np.eye(2), 2, axis=0) / 2)
    np.testing.assert_array_equal(bilinear(1, 3), [[1, 1, 1]])


def test_scaling_of_each_channel_is_done_with_the_resizing() -> None:
    cut = cut_behind_resizing(_model(np.array([[[1]], [[2]], [[4]]], np.float32)))
    assert cut is not None
    assert cut.size_px == 4
    np.testing.assert_array_equal(cut.scale, [0.5, 0.5, 0.5])
    np.testing.assert_array_equal(cut.offset, [1, 2, 4])
    assert _kinds(cut.model) == ["Convert", "Transpose", "Relu"]


def test_summands_along_another_axis_than_the_channels_stay_in_the_network() -> None:
    cut = cut_behind_resizing(_model(np.array([1, 2, 4, 8], np.float32)))
    assert cut is not None
    np.testing.assert_array_equal(cut.offset, [0, 0, 0])
    assert _kinds(cut.model) == ["Convert", "Transpose", "Add", "Relu"]


def _model(summand: Any) -> Any:
    """Resizes to 4x4, halves, adds, and takes what is above 0."""
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as ops

    images = ops.parameter([1, 2, 2, 3], np.float32)
    x = ops.interpolate(images, ops.constant([4, 4]), "linear", "sizes", axes=ops.constant([1, 2]))
    x = ops.transpose(x, ops.constant([0, 3, 1, 2]))
    x = ops.add(ops.multiply(x, ops.constant(np.float32(0.5))), ops.constant(summand))
    return openvino.Model([ops.relu(x)], [images])


def _kinds(model: Any) -> list[str]:
    names = [one.get_type_name() for one in model.get_ordered_ops()]
    return [one for one in names if one not in ("Parameter", "Constant", "Result")]
