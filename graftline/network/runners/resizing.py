"""How OpenVINO brings raw images to the network's size: by products with matrices.

Its own operation for it took a quarter of a network's time on digits, and half of it on photographs
that had the size already. Bilinear resizing is a sum of rows and then of columns, so two products
with constant matrices do it, which cores with AMX are made for.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SHAPES = 32
"""As many shapes of images are kept ready: each takes some hundredths of a second to make."""

CHANNELS = 3
"""That a network takes."""

Shape = tuple[int, ...]


class Resizing:
    """What comes before a network: images of one shape in, images of the network's size out.

    Args:
        size_px: Height and width that the network takes; it takes three channels.
        images: How many at once.
        compiled: Compiles a model of OpenVINO.
    """

    def __init__(self, size_px: int, images: int, compiled: Callable[[Any], Any]) -> None:
        self._size_px, self._images, self._compiled = size_px, images, compiled
        self._lock = threading.Lock()
        self._ready = functools.lru_cache(_SHAPES)(self._made)

    def request(self, shape: Shape) -> Any:
        """A new request for images of a shape: height, width, channels."""
        with self._lock:
            return self._ready(shape).create_infer_request()

    def _made(self, shape: Shape) -> Any:
        import openvino
        from openvino import opset13 as ops

        height, width, channels = shape
        count, size = self._images, self._size_px
        mixing = np.ones((1, CHANNELS)) if channels == 1 else np.eye(CHANNELS)
        images = ops.parameter([count, *shape], np.uint8)
        x = ops.reshape(images, ops.constant([count, height, width * channels]), False)
        if height == size:
            x = ops.convert(x, "f32")
        else:
            # Constants are fast on the right side only.
            x = ops.convert(ops.transpose(x, ops.constant([0, 2, 1])), "f32")
            x = ops.matmul(x, ops.constant(bilinear(height, size)), False, False)
            x = ops.transpose(x, ops.constant([0, 2, 1]))  # (n, size, width * channels)
        across = np.kron(bilinear(width, size), mixing)
        if across.shape[0] != across.shape[1] or not np.array_equal(across, np.eye(len(across))):
            x = ops.matmul(x, ops.constant(across.astype(np.float32)), False, False)
        x = ops.reshape(x, ops.constant([count, size, size, CHANNELS]), False)
        return self._compiled(openvino.Model([ops.convert(x, "bf16")], [images]))


def behind_resizing(model: Any) -> tuple[Any, int] | None:
    """What a model does with images once it has brought them to the size that its network takes.

    Returns:
        The model from bfloat16 (n, size, size, channels) on, and the size. None if there is no such
        place.
    """
    import openvino
    from openvino import opset13 as ops

    found = (one for one in model.get_ordered_ops() if one.get_type_name() == "Interpolate")
    if (resizing := next(found, None)) is None:
        return None
    shape = resizing.get_output_partial_shape(0)
    given = ops.parameter(shape, openvino.Type.bf16)
    converted = ops.convert(given, "f32")
    for target in resizing.output(0).get_target_inputs():
        target.replace_source_output(converted.output(0))
    behind = openvino.Model([one.node for one in model.outputs], [given])
    return behind, int(shape[1].get_length())


def bilinear(given: int, wanted: int) -> NDArray[np.float32]:
    """From so many values in a row to so many others, between their centres: (given, wanted)."""
    at = np.clip((np.arange(wanted) + 0.5) * given / wanted - 0.5, 0, given - 1)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, given - 1)
    matrix = np.zeros((given, wanted), np.float64)
    np.add.at(matrix, (below, np.arange(wanted)), 1 - (at - below))
    np.add.at(matrix, (above, np.arange(wanted)), at - below)
    return matrix.astype(np.float32)
