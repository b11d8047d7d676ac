"""Graftline's runner, and the others that one could take in its place."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.backbones import IMAGE_SHAPE, Backbone
from graftline.compute.cores import available_cores

GRAFTLINE, KERAS = "Graftline", "keras.Model.predict"
BATCHES = (1, 8, 32)
"""What is tried for those who leave the choice of a batch to their user."""
_GRAFTLINE_BATCH = 256
_KERAS_BATCH = 32
_TENSORFLOW_BATCH = 128

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Runner:
    """One way of running the backbone.

    Args:
        name: Of the library or function.
        setting: How it is set.
        run: From images (n, 28, 28, 1) to features (n, width).
    """

    name: str
    setting: str
    run: Run


@dataclass(frozen=True)
class Absent:
    """A runner that cannot be measured here.

    Args:
        name: Of the library.
        reason: Why not.
    """

    name: str
    reason: str


def runners(backbone: Backbone, sample: NDArray[np.uint8]) -> tuple[list[Runner], list[Absent]]:
    """Every runner at its best setting, and those that are not installed.

    Args:
        backbone: What they run.
        sample: Images on which the settings of the others are tried.
    """
    present: list[Runner] = []
    absent: list[Absent] = []
    for name, build in _BUILDERS.items():
        try:
            settings = build(backbone)
        except ImportError as error:
            absent.append(Absent(name, f"not installed ({error.name})"))
        else:
            runs = {setting: Runner(name, setting, run) for setting, run in settings.items()}
            present.append(fastest(list(runs.values()), sample))
    return present, absent


def fastest(candidates: list[Runner], sample: NDArray[np.uint8]) -> Runner:
    """The runner that takes the least time for ``sample``, after one pass to warm up."""
    if len(candidates) == 1:
        return candidates[0]
    seconds = {}
    for number, candidate in enumerate(candidates):
        candidate.run(sample)
        started_s = time.perf_counter()
        candidate.run(sample)
        seconds[number] = time.perf_counter() - started_s
    return candidates[min(seconds, key=seconds.__getitem__)]


def _graftline(backbone: Backbone) -> dict[str, Run]:
    from graftline.network.runners.litert import LiteRunner

    runner = LiteRunner(backbone.litert_file)

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        batches = (
            images[at : at + _GRAFTLINE_BATCH] for at in range(0, len(images), _GRAFTLINE_BATCH)
        )
        return np.concatenate(list(runner.run_all(batches)))

    return {"as extract uses it": run}


def _keras(backbone: Backbone) -> dict[str, Run]:
    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        features: NDArray[np.float32] = backbone.model.predict(
            images, batch_size=_KERAS_BATCH, verbose=0
        )
        return features

    return {f"batch {_KERAS_BATCH}": run}


def _tensorflow(backbone: Backbone) -> dict[str, Run]:
    import tensorflow as tf

    function = tf.function(
        lambda images: backbone.model(images, training=False),
        input_signature=[tf.TensorSpec((None, *IMAGE_SHAPE), tf.uint8)],
    )
    return {
        f"batch {_TENSORFLOW_BATCH}": _batched(
            lambda batch: function(tf.constant(batch)).numpy(), _TENSORFLOW_BATCH
        )
    }


def _litert(backbone: Backbone) -> dict[str, Run]:
    return {f"batch {batch}": _litert_run(backbone, batch) for batch in BATCHES}


def _litert_run(backbone: Backbone, batch: int) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(backbone.fixed_litert_file), num_threads=available_cores())
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, (batch, *IMAGE_SHAPE))
    interpreter.allocate_tensors()

    def one(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        interpreter.set_tensor(place, _filled(images, batch))
        interpreter.invoke()
        features: NDArray[np.float32] = interpreter.get_tensor(
            interpreter.get_output_details()[0]["index"]
        )
        return features[: len(images)]

    return _batched(one, batch)


def _onnx_runtime(backbone: Backbone) -> dict[str, Run]:
    import onnxruntime

    path, cores = str(backbone.onnx_file), available_cores()

    def session(threads: int) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    whole, single = session(cores), session(1)
    place = whole.get_inputs()[0].name
    runs: dict[str, Run] = {}
    for batch in BATCHES:
        runs[f"batch {batch}"] = _batched(lambda images: whole.run(None, {place: images})[0], batch)
        # A session may be used by several threads at once.
        runs[f"batch {batch}, {cores} at a time"] = _batched(
            lambda images: single.run(None, {place: images})[0], batch, at_once=cores
        )
    return runs


def _openvino(backbone: Backbone) -> dict[str, Run]:
    import openvino

    core = openvino.Core()
    runs: dict[str, Run] = {}
    for hint in ("LATENCY", "THROUGHPUT"):
        for batch in BATCHES:
            model = core.read_model(str(backbone.onnx_file))
            model.reshape([batch, *IMAGE_SHAPE])
            # Left to itself it computes in bfloat16 where the processor can.
            settings = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "f32"}
            compiled = core.compile_model(model, "CPU", settings)
            runs[f"batch {batch}, {hint.lower()}"] = _openvino_run(compiled, batch)
    return runs


def _openvino_run(compiled: Any, batch: int) -> Run:
    import openvino

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        starts = range(0, len(images), batch)
        features: dict[int, NDArray[np.float32]] = {}
        queue = openvino.AsyncInferQueue(compiled)
        queue.set_callback(
            lambda request, at: features.__setitem__(at, request.get_output_tensor(0).data.copy())
        )
        for at in starts:
            queue.start_async({0: _filled(images[at : at + batch], batch)}, at)
        queue.wait_all()
        return np.concatenate([features[at] for at in starts])[: len(images)]

    return run


def _batched(one: Run, batch: int, at_once: int = 1) -> Run:
    """Runs batch after batch, or ``at_once`` of them side by side."""

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        pieces = [images[at : at + batch] for at in range(0, len(images), batch)]
        if at_once == 1:
            return np.concatenate([one(piece) for piece in pieces])
        with ThreadPoolExecutor(at_once) as pool:
            return np.concatenate(list(pool.map(one, pieces)))

    return run


def _filled(images: NDArray[np.uint8], batch: int) -> NDArray[np.uint8]:
    """The images with blank ones behind them up to a whole batch."""
    if len(images) == batch:
        return images
    filled = np.zeros((batch, *images.shape[1:]), np.uint8)
    filled[: len(images)] = images
    return filled


_BUILDERS: dict[str, Callable[[Backbone], dict[str, Run]]] = {
    GRAFTLINE: _graftline,
    KERAS: _keras,
    "tf.function": _tensorflow,
    "LiteRT by hand": _litert,
    "ONNX Runtime": _onnx_runtime,
    "OpenVINO": _openvino,
}
