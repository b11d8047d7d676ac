"""Writes the network in each format, with its contract inside; each file takes raw uint8 images."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from graftline.core.errors import ExportError, GraftlineError
from graftline.core.records import ExportFormat
from graftline.formats.contract import (
    CONTRACT_FILE,
    CONTRACT_KEY,
    LABELS_FILE,
    LABELS_KEY,
    OutputContract,
    append_contract,
)
from graftline.formats.exported_network import IMAGES, PROBABILITIES, SIGNATURE, Network
from graftline.formats.onnx_order import put_in_order
from graftline.network.keras_io import convert_to_litert

ONNX_OPSET = 17
"""Of 2022: every ONNX Runtime since 1.12 runs it, and later ones give these networks nothing."""
PATHS: dict[ExportFormat, str] = {
    "litert_float32": "model_float32.tflite",
    "litert_float16": "model_float16.tflite",
    "litert_int8": "model_int8.tflite",
    "saved_model": "saved_model",
    "onnx": "model.onnx",
}
"""Where each format lies within ``models/exports/``."""
_REASON_CHARACTERS = 300


def make(network: Network, format: ExportFormat, folder: Path) -> Path:
    """Writes the network in one format.

    Args:
        network: What is exported.
        format: Into what.
        folder: Where its file, or its own folder, goes.

    Returns:
        The file, or folder.

    Raises:
        ExportError: If the format's converter cannot take this network.
    """
    path = folder / PATHS[format]
    try:
        with quiet_converters():
            _MAKERS[format](network, path)
    except (GraftlineError, OSError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:_REASON_CHARACTERS]
        raise ExportError(
            f"the model cannot be brought into {format}: {type(error).__name__}: {reason}",
            where=f"export.formats: {format}",
            fix="take it out of export.formats, or choose another backbone.name",
        ) from error
    return path


def _float32(network: Network, path: Path) -> None:
    _write_litert(network, "litert_float32", convert_to_litert(network.answering()), path)


def _float16(network: Network, path: Path) -> None:
    import tensorflow as tf

    def configure(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]

    converted = convert_to_litert(network.answering(), configure=configure)
    _write_litert(network, "litert_float16", converted, path)


def _int8(network: Network, path: Path) -> None:
    import tensorflow as tf

    def calibration() -> Iterator[list[Any]]:
        for image in network.calibration():
            yield [image.astype(np.float32)]

    def configure(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = calibration
        # Nothing but integers, or no file at all: no layer may quietly stay in 32 bits.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.uint8

    # From float images, so that enlarging and scaling are in integers too: from uint8 ones the
    # converter would keep both in 32 bits.
    function = network.answering("float32")
    converted = convert_to_litert(function, dtype="float32", configure=configure)
    _write_litert(network, "litert_int8", converted, path)


def _write_litert(network: Network, format: ExportFormat, model: bytes, path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    path.write_bytes(model)
    interpreter = Interpreter(model_content=model)
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = answer["quantization"]
    output = OutputContract(
        name=answer["name"],
        dtype="uint8" if answer["dtype"] is np.uint8 else "float32",
        scale=float(scale) or 1.0,
        zero_point=int(zero_point),
    )
    append_contract(path, network.contract(format, given["name"], output))


def _saved_model(network: Network, path: Path) -> None:
    import tensorflow as tf

    contract = network.contract("saved_model", any_size=True)
    images = tf.TensorSpec((None, None, None, None), tf.uint8, name=IMAGES)
    with tempfile.TemporaryDirectory(prefix="graftline-assets-") as folder:
        module = tf.Module()
        # TensorFlow's own variables: Keras, and Graftline, are not needed to load them.
        module.weights = [variable.value for variable in network.classifier.variables]
        for name, text in ((CONTRACT_FILE, contract.json_text), (LABELS_FILE, contract.labels)):
            asset = Path(folder) / name
            asset.write_text(text, encoding="utf-8")
            setattr(module, asset.stem, tf.saved_model.Asset(str(asset)))

        def serve(images: Any) -> dict[str, Any]:
            return {PROBABILITIES: network.classifier(images, training=False)}

        module.serve = tf.function(serve, input_signature=[images])
        tf.saved_model.save(module, str(path), signatures={SIGNATURE: module.serve})
    # It holds a random number, and is there for telling models apart, which the contract does.
    (path / "fingerprint.pb").unlink(missing_ok=True)


def _onnx(network: Network, path: Path) -> None:
    import onnx
    import tensorflow as tf
    import tf2onnx

    answering = network.answering()
    images = tf.TensorSpec((None, None, None, None), tf.uint8, name=IMAGES)

    def serve(images: Any) -> dict[str, Any]:
        return {PROBABILITIES: answering(images)}

    function = tf.function(serve, input_signature=[images])
    model, _ = tf2onnx.convert.from_function(function, input_signature=[images], opset=ONNX_OPSET)
    put_in_order(model)
    contract = network.contract("onnx")
    onnx.helper.set_model_props(
        model, {CONTRACT_KEY: contract.json_text, LABELS_KEY: contract.labels}
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


_MAKERS: dict[ExportFormat, Callable[[Network, Path], None]] = {
    "litert_float32": _float32,
    "litert_float16": _float16,
    "litert_int8": _int8,
    "saved_model": _saved_model,
    "onnx": _onnx,
}


@contextmanager
def quiet_converters() -> Iterator[None]:
    """Keeps what the converters tell of their own workings off the screen."""
    for name in ("tensorflow", "tf2onnx", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
