"""The frozen backbone that every runner gets, in every form that one of them takes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.network.cutting import multiply_adds_of

IMAGE_SHAPE = (28, 28, 1)
"""Of the raw images: MNIST's."""
_OPSET = 18


@dataclass(frozen=True)
class Backbone:
    """MobileNetV2 up to a layer, pooled, from raw uint8 images, with the same weights everywhere.

    Args:
        size_px: Height and width that the images are brought to.
        folder: Where its files go.
        model: The Keras model, from uint8 (n, 28, 28, 1) to float32 (n, features).
        litert_file: The file that Graftline itself uses, for images of any size.
    """

    size_px: int
    folder: Path
    model: Any
    litert_file: Path

    @functools.cached_property
    def multiply_adds(self) -> int:
        """Of one image, in convolutions alone."""
        return sum(multiply_adds_of(layer) for layer in _layers(self.model))

    @functools.cached_property
    def fixed_litert_file(self) -> Path:
        """As somebody would convert it who knows the images' size; the batch stays open."""
        path = self.folder / "fixed.tflite"
        path.write_bytes(self.converted())
        return path

    def converted(self, configure: Callable[[Any], None] = lambda converter: None) -> bytes:
        """For the size of :data:`IMAGE_SHAPE` alone.

        Args:
            configure: Tells TensorFlow's converter what else to do.
        """
        import tensorflow as tf

        _quiet()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([self._constant()])
        configure(converter)
        made: bytes = converter.convert()
        return made

    @functools.cached_property
    def onnx_file(self) -> Path:
        """As ONNX, by tf2onnx; the batch stays open.

        Raises:
            ImportError: If tf2onnx is not installed.
        """
        import tf2onnx

        _quiet()
        constant = self._constant()
        path = self.folder / "backbone.onnx"
        tf2onnx.convert.from_graph_def(
            constant.graph.as_graph_def(),
            input_names=[tensor.name for tensor in constant.inputs],
            output_names=[tensor.name for tensor in constant.outputs],
            opset=_OPSET,
            output_path=str(path),
        )
        return path

    def _constant(self) -> Any:
        import tensorflow as tf
        from tensorflow.python.framework.convert_to_constants import (
            convert_variables_to_constants_v2,
        )

        signature = [tf.TensorSpec((None, *IMAGE_SHAPE), tf.uint8, name="images")]
        function = tf.function(
            lambda images: self.model(images, training=False), input_signature=signature
        )
        return convert_variables_to_constants_v2(function.get_concrete_function())


def build_backbone(size_px: int, alpha: float, cut: str, folder: Path) -> Backbone:
    """Builds the backbone with the weights that Graftline pins, or random ones for other alphas.

    Args:
        size_px: Height and width that the images are brought to.
        alpha: MobileNetV2's width multiplier.
        cut: The layer after which it ends.
        folder: Where files go.
    """
    import keras
    from keras import layers, ops

    from graftline.core.params import BackboneParams
    from graftline.core.workspace import Workspace
    from graftline.network.classifier import build_pooling, frozen_part
    from graftline.network.cutting import build_base, cut_after
    from graftline.network.keras_io import convert_to_litert
    from graftline.network.pretrained import load_into, resolve_weights

    base = build_base(size_px, alpha, seed=0)
    if alpha == 1.0:
        chosen = BackboneParams(weights="stanford-dogs")
        load_into(base, resolve_weights(Workspace.here(), chosen, size_px))
    backbone, pooling = cut_after(base, cut), build_pooling("average")
    images = keras.Input(IMAGE_SHAPE, dtype="uint8")
    expanded = ops.cast(ops.concatenate([images] * 3, axis=-1), "float32")
    resized = layers.Resizing(size_px, size_px, interpolation="bilinear", dtype="float32")(expanded)
    scaled = layers.Rescaling(1 / 127.5, offset=-1.0)(resized)
    model = keras.Model(images, pooling(backbone(scaled, training=False)))
    path = folder / "frozen.tflite"
    path.write_bytes(convert_to_litert(frozen_part(backbone, size_px, pooling)))
    return Backbone(size_px, folder, model, path)


def random_images(count: int, shape: tuple[int, int, int] = IMAGE_SHAPE) -> NDArray[np.uint8]:
    """Images of noise, uint8 (count, height, width, channels), the same at every call."""
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def _layers(model: Any) -> list[Any]:
    found: list[Any] = []
    for layer in model.layers:
        found += _layers(layer) if hasattr(layer, "layers") else [layer]
    return found


def _quiet() -> None:
    for name in ("tensorflow", "absl", "tf2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
