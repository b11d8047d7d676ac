"""Inference with OpenVINO in bfloat16, on cores that have instructions for it.

It reads the same LiteRT files as LiteRT does, and brings images to the network's size and scale in
its own way. What lies behind the pooled features, which is the head, computes in float32, as it was
trained. The outputs are the same bit for bit whatever the size of a batch.

A model is compiled once for each worker, for one stream of one thread: only then does OpenVINO
compute on the thread that calls. Else it hands every request over to a thread of its own, and the
cores wait in between (docs/performance.md).
"""

from __future__ import annotations

import functools
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.compute.cores import available_cores
from graftline.core.checksums import verify
from graftline.core.errors import unusable_output
from graftline.network.runners.pieces import PieceRunner, piece_images
from graftline.network.runners.resizing import CHANNELS, Cut, Resizing, Shape, cut_behind_resizing

_MAP_VALUE_BYTES = 2
_FEATURES = 1
"""The place of the pooled features among a whole network's outputs."""


class OpenVinoRunner(PieceRunner):
    """Runs one LiteRT file, its backbone in bfloat16.

    Args:
        path: The ``.tflite`` file; its input is uint8 (n, height, width, channels), all dynamic.
        workers: Requests side by side; by default one per core.

    Raises:
        DamagedFileError: If its folder lists another checksum for it.
        MissingOutputError: If the file is absent or no LiteRT model.
    """

    title = "OpenVINO in bfloat16"

    def __init__(self, path: Path, workers: int | None = None) -> None:
        verify(path)
        workers = workers or available_cores()
        try:
            model = _core().read_model(str(path))
        except RuntimeError as error:
            raise unusable_output(path, "is absent or no LiteRT model") from error
        # The converter may list them in another order than the function's, which the names tell.
        model = _with_outputs(model, sorted(model.outputs, key=lambda one: one.get_any_name()))
        dims = tuple(int(one.partial_shape[-1].get_length()) for one in model.outputs)
        head = _split(model) if len(model.outputs) > _FEATURES else None
        if head is not None:
            model = _with_outputs(model, [model.outputs[_FEATURES]])
        if (cut := cut_behind_resizing(model)) is None:
            raise unusable_output(path, "does not bring images to its network's size")
        # All is known, so nothing is left to be worked out at each run.
        size = (cut.size_px, cut.size_px, CHANNELS)
        cut.model.reshape([1, *size])
        images = piece_images(_MAP_VALUE_BYTES * _largest_map(cut.model))
        cut.model.reshape([images, *size])
        with ThreadPoolExecutor(workers) as pool:
            made = [pool.submit(_Request, cut, head, images) for _ in range(workers)]
            sessions = [one.result() for one in made]
        super().__init__(sessions, images, dims, "openvino")


class _Request:
    """One request of the resizing, one of the backbone, and one of the head behind it."""

    def __init__(self, cut: Cut, head: Any, batch: int) -> None:
        self._shape = Shape()
        self._resizing = Resizing(cut, batch, lambda one: _request(one, "bf16"))
        self._resized: Any = None
        self._backbone = _request(cut.model, "bf16")
        self._head = None if head is None else _request(head, "f32")

    def run(self, images: NDArray[np.uint8], outputs: int) -> list[NDArray[np.float32]]:
        count = len(images)
        if images.shape[1:] != self._shape:
            self._shape = images.shape[1:]
            self._resized = self._resizing.request(self._shape)
            self._backbone.set_input_tensor(self._resized.get_output_tensor())
        # Handing arrays over takes longer than copying them. What is left behind them there, of an
        # earlier batch, is computed in vain.
        self._resized.get_input_tensor().data[:count] = images
        self._resized.infer(share_outputs=True)
        features = _values(self._backbone.infer(share_outputs=True))
        if self._head is None:
            return [features[0][:count]]
        answers = _values(self._head.infer(features, share_inputs=True, share_outputs=True))
        answers.insert(_FEATURES, features[0])
        return [one[:count] for one in answers[:outputs]]


def _values(results: Any) -> list[NDArray[np.float32]]:
    return [np.array(one) for one in results.to_tuple()]


_making_core = threading.Lock()


def _core() -> Any:
    with _making_core:
        return _warm_core()


@functools.cache
def _warm_core() -> Any:
    """The runtime, after a first inference.

    Its binding fills tables of types when they are first needed. Two threads that come there at the
    same time wait for each other for ever: one holds the table and wants Python's lock, the other
    holds Python's lock and wants the table.
    """
    import openvino
    from openvino import opset13

    core = openvino.Core()
    given = opset13.parameter([1], np.uint8)
    model = openvino.Model([opset13.convert(given, "f32")], [given])
    request = core.compile_model(model, "CPU").create_infer_request()
    _values(request.infer([np.zeros(1, np.uint8)], share_inputs=True))
    return core


def _request(model: Any, precision: str) -> Any:
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        # Threads that are bound to cores stand in the way of what else runs there.
        "ENABLE_CPU_PINNING": False,
    }
    return _core().compile_model(model, "CPU", settings).create_infer_request()


def _with_outputs(model: Any, outputs: list[Any]) -> Any:
    import openvino

    return openvino.Model([one.node for one in outputs], model.get_parameters())


def _split(model: Any) -> Any:
    """Cuts a whole network behind its pooled features, and gives what lies there as a model."""
    import openvino
    from openvino import opset13

    features = model.outputs[_FEATURES].node.input_value(0)
    given = opset13.parameter([-1, features.partial_shape[-1].get_length()], np.float32)
    for target in features.get_target_inputs():
        if target.get_node().get_type_name() != "Result":
            target.replace_source_output(given.output(0))
    answers = [one.node for at, one in enumerate(model.outputs) if at != _FEATURES]
    return openvino.Model(answers, [given])


def _largest_map(model: Any) -> int:
    """Values of the largest one that no size of the raw images decides on."""
    shapes = [
        output.partial_shape
        for operation in model.get_ordered_ops()
        if operation.get_type_name() != "Constant"
        for output in operation.outputs()
    ]
    return max((math.prod(one.to_shape()) for one in shapes if one.is_static), default=0)
