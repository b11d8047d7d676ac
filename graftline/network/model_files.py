"""The trained network as files: Keras, its weights alone, and LiteRT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from graftline.core.backbones import family_of
from graftline.core.workspace import LITERT_FILE
from graftline.network.classifier import (
    BACKBONE,
    HEAD,
    POOLING,
    PROBABILITIES,
    build_preparation,
    without_softmax,
)
from graftline.network.keras_io import convert_to_litert, save_model

KERAS_FILE = "model.keras"
WEIGHTS_FILE = "model.weights.h5"


def make_answering(
    classifier: Any, size_px: int, dtype: str = "uint8"
) -> Callable[[Any], tuple[Any, Any, Any]]:
    """From images to probabilities (n, classes), the features (n, c) that the head saw, and logits.

    Args:
        classifier: As for :func:`export_model`.
        size_px: Its input size; the images are no larger than this.
        dtype: What the images' values, 0 to 255, are stored as.
    """
    backbone, pooling, head = (classifier.get_layer(name) for name in (BACKBONE, POOLING, HEAD))
    scaling = family_of(backbone).scaling
    preparation = build_preparation(size_px, scaling, antialias=False, dtype=dtype)
    scoring, softmax = without_softmax(head), head.get_layer(PROBABILITIES)

    def answer(images: Any) -> tuple[Any, Any, Any]:
        features = pooling(backbone(preparation(images), training=False))
        logits = scoring(features, training=False)
        return softmax(logits), features, logits

    return answer


def export_model(classifier: Any, size_px: int, folder: Path) -> None:
    """Writes the network three ways; each takes raw uint8 images of one or three channels.

    The LiteRT file has three outputs: the probabilities (n, classes), the pooled features (n, c)
    that the head saw, by which drift is measured, and the logits (n, classes), from which losses
    are taken.

    Args:
        classifier: From uint8 (n, height, width, channels) to probabilities (n, classes).
        size_px: Its input size; images for the LiteRT file are no larger than this.
        folder: Where the files go.
    """
    save_model(classifier, folder / KERAS_FILE)
    classifier.save_weights(folder / WEIGHTS_FILE)
    (folder / LITERT_FILE).write_bytes(convert_to_litert(make_answering(classifier, size_px)))
