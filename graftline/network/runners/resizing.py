"""How OpenVINO brings raw images to the network's size: by products with matrices.

Its own operation for it took a quarter of a network's time on digits, and half of it on photographs
that had the size already. Bilinear resizing is a sum of rows and then of columns, so two products
with constant matrices do it, which cores with AMX are made for. The scaling of the values, which
is slow where each pixel's three channels come one by one, is done there too, on whole rows.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SHAPES = 32
"""As many shapes of images are kept ready: each takes some hundredths of a second to make."""

_TO_CHANNELS_FIRST = [0, 3, 1, 2]

CHANNELS = 3
"""That a network takes."""

Shape = tuple[int, ...]

_making = threading.Lock()
"""One at a time, for OpenVINO's binding fills tables that two threads may not come to at once."""


@dataclass(frozen=True)
class Cut:
    """A model behind the resizing, and what is still to be done before it.

    Args:
        model: From bfloat16 (n, size, size, channels) on.
        size_px: Height and width that it takes; it takes three channels.
        scale: Each channel's factor.
        offset: Each channel's summand, behind the factor.
    """

    model: Any
    size_px: int
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]


class Resizing:
    """What comes before a network: images of one shape in, images of the network's size out.

    Args:
        cut: The network.
        images: How many at once.
        request: Makes a request that runs a model of OpenVINO.
    """

    def __init__(self, cut: Cut, images: int, request: Callable[[Any], Any]) -> None:
        self._cut, self._images, self._request = cut, images, request
        self._ready = functools.lru_cache(_SHAPES)(self._made)

    def request(self, shape: Shape) -> Any:
        """The request for images of a shape: height, width, channels."""
        with _making:
            return self._ready(shape)

    def _made(self, shape: Shape) -> Any:
        import openvino
        from openvino import opset13 as ops

        height, width, channels = shape
        count, size = self._images, self._cut.size_px
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
        # A row's pixels lie side by side, (n, size, size * channels), and so do their factors.
        x = ops.multiply(x, ops.constant(np.tile(self._cut.scale, size)[None, None]))
        x = ops.add(x, ops.constant(np.tile(self._cut.offset, size)[None, None]))
        x = ops.reshape(x, ops.constant([count, size, size, CHANNELS]), False)
        return self._request(openvino.Model([ops.convert(x, "bf16")], [images]))


def cut_behind_resizing(model: Any) -> Cut | None:
    """What a model does with images once it has brought them to the network's size and scale.

    Scaling that is no factor and summand of each channel stays in the model.

    Returns:
        None if the model brings no images to a size.
    """
    import openvino
    from openvino import opset13 as ops

    found = (one for one in model.get_ordered_ops() if one.get_type_name() == "Interpolate")
    if (resizing := next(found, None)) is None:
        return None
    shape = resizing.get_output_partial_shape(0)
    scale, offset = np.ones(CHANNELS), np.zeros(CHANNELS)
    place, first = resizing.output(0), False
    while (step := _only_step(place)) is not None:
        kind, values = step.get_type_name(), _values_of(step)
        if kind == "Transpose" and not first and values.tolist() == _TO_CHANNELS_FIRST:
            first = True
        elif kind in ("Multiply", "Add") and _for_channels(values, first):
            each = np.broadcast_to(values.reshape(-1), CHANNELS)
            scale = scale * each if kind == "Multiply" else scale
            offset = offset * each if kind == "Multiply" else offset + each
        else:
            break
        place = step.output(0)
    given = ops.parameter(shape, openvino.Type.bf16)
    converted = ops.convert(given, "f32")
    if first:
        converted = ops.transpose(converted, ops.constant(_TO_CHANNELS_FIRST))
    for target in place.get_target_inputs():
        target.replace_source_output(converted.output(0))
    behind = openvino.Model([one.node for one in model.outputs], [given])
    size_px = int(shape[1].get_length())
    return Cut(behind, size_px, scale.astype(np.float32), offset.astype(np.float32))


def _only_step(place: Any) -> Any:
    """What alone takes an output, with a constant beside it."""
    targets = list(place.get_target_inputs())
    if len(targets) != 1 or targets[0].get_index() != 0:
        return None
    step = targets[0].get_node()
    beside = [one.get_node().get_type_name() for one in step.input_values()[1:]]
    return step if beside == ["Constant"] else None


def _values_of(step: Any) -> NDArray[np.float64]:
    return np.asarray(step.input_value(1).get_node().get_data(), np.float64)


def _for_channels(values: NDArray[np.float64], first: bool) -> bool:
    """Whether values are one for all, or one for each channel."""
    along = (CHANNELS, 1, 1) if first else (CHANNELS,)
    return values.size == 1 or (values.size == CHANNELS and values.shape[-len(along) :] == along)


def bilinear(given: int, wanted: int) -> NDArray[np.float32]:
    """From so many values in a row to so many others, between their centres: (given, wanted)."""
    at = np.clip((np.arange(wanted) + 0.5) * given / wanted - 0.5, 0, given - 1)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, given - 1)
    matrix = np.zeros((given, wanted), np.float64)
    np.add.at(matrix, (below, np.arange(wanted)), 1 - (at - below))
    np.add.at(matrix, (above, np.arange(wanted)), at - below)
    return matrix.astype(np.float32)
