"""The classifier: preprocessing, backbone and head, all as stock Keras layers.

This is the one definition of how an image becomes an input; training, evaluation, prediction and
the exported files all go through it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graftline.core.backbones import Scaling, family_of
from graftline.core.params import HeadParams

HEAD = "head"
LOGITS = "logits"
PROBABILITIES = "probabilities"
PREPARATION = "preparation"
POOLING = "pooling"
STANDARDIZATION = "standardization"
BACKBONE = "backbone"
CHANGE = "augment_"
"""Begins the names of layers that change training images."""


def build_classifier(backbone: Any, head: HeadParams, classes: int, seed: int) -> Any:
    """Joins preparation, backbone and a fresh head.

    Args:
        backbone: From float32 (n, size, size, 3) to feature maps (n, h, w, c); its family says how
            its inputs are scaled.
        head: What the new classifier is made of.
        classes: Number of classes.
        seed: Seed of the head's weights and of its dropout.

    Returns:
        A ``keras.Model`` from uint8 (n, height, width, 1 or 3) of any size to float32
        (n, classes): probabilities.
    """
    import keras

    size_px = int(backbone.input.shape[1])
    images = keras.Input((None, None, None), dtype="uint8", name="images")
    preparation = build_preparation(size_px, family_of(backbone).scaling)
    maps = backbone(preparation(images), training=False)
    features = build_pooling(head.pooling)(maps)
    probabilities = build_head(head, int(maps.shape[-1]), classes, seed)(features)
    return keras.Model(images, probabilities, name="classifier")


def build_preparation(
    size_px: int, scaling: Scaling, *, antialias: bool = True, dtype: str = "uint8"
) -> Any:
    """Channel expansion, resizing and scaling: raw images to what a backbone takes.

    Args:
        size_px: Height and width of the result.
        scaling: What the backbone's family takes.
        antialias: Whether larger images are shrunk with a filter. Enlarging is the same either
            way. LiteRT has no such filter: what it gets was shrunk before.
        dtype: What the images' values, 0 to 255, are stored as.

    Returns:
        A ``keras.Model`` from uint8 (n, height, width, 1 or 3) to float32
        (n, size_px, size_px, 3), scaled.
    """
    import keras
    from keras import layers, ops

    images = keras.Input((None, None, None), dtype=dtype, name="images")
    pixels = ops.cast(images, "float32")
    resized = layers.Resizing(
        size_px, size_px, interpolation="bilinear", antialias=antialias, dtype="float32"
    )(pixels)
    if scaling.bgr:
        resized = ops.flip(resized, axis=-1)
    # Three offsets make three channels of one. Put side by side, as copies, they would cost LiteRT
    # a quarter of the time of the whole network.
    offsets = np.broadcast_to(scaling.offset, 3).tolist()
    scaled = layers.Rescaling(scaling.scale, offset=offsets)(resized)  # (n, size_px, size_px, 3)
    shaped = layers.Reshape((size_px, size_px, 3))(scaled)
    return keras.Model(images, shaped, name=PREPARATION)


def build_pooling(kind: str) -> Any:
    """Global pooling: feature maps (n, h, w, c) to (n, c)."""
    from keras import layers

    if kind == "max":
        return layers.GlobalMaxPooling2D(name=POOLING)
    return layers.GlobalAveragePooling2D(name=POOLING)


def build_head(head: HeadParams, feature_dim: int, classes: int, seed: int) -> Any:
    """Standardization, dense layers, dropout and softmax: (n, feature_dim) to (n, classes)."""
    import keras
    from keras import layers

    features = keras.Input((feature_dim,), name="features")
    x = features
    if head.standardize:
        # As stored statistics of a layer that never trains; train sets them once, from the
        # training split.
        x = layers.BatchNormalization(
            center=False, scale=False, epsilon=1e-7, trainable=False, name=STANDARDIZATION
        )(x)
    for number, units in enumerate(head.units):
        initializer = keras.initializers.GlorotUniform(seed=seed + number)
        x = layers.Dense(
            units, activation="relu", kernel_initializer=initializer, name=f"dense_{number}"
        )(x)
    if head.dropout:
        x = layers.Dropout(head.dropout, seed=seed, name="dropout")(x)
    initializer = keras.initializers.GlorotUniform(seed=seed + len(head.units))
    # The softmax is a layer of its own, since losses are taken from what goes into it. Both stay in
    # float32: training in 16 bits would round differences of large logits away.
    logits = layers.Dense(classes, kernel_initializer=initializer, dtype="float32", name=LOGITS)(x)
    probabilities = layers.Softmax(dtype="float32", name=PROBABILITIES)(logits)
    return keras.Model(features, probabilities, name=HEAD)


def without_softmax(head: Any) -> Any:
    """The head up to its logits, (n, feature_dim) to (n, classes); it shares the head's weights."""
    import keras

    return keras.Model(head.input, head.get_layer(LOGITS).output, name=HEAD)


def divide_logits(classifier: Any, temperature: float) -> None:
    """Divides what goes into the softmax, which changes confidences and no answer.

    Args:
        classifier: A whole network; weight and bias of its last dense layer are divided.
        temperature: Above 1 for more modest answers, below for bolder ones.
    """
    last = classifier.get_layer(HEAD).get_layer(LOGITS)
    for variable in last.trainable_variables:
        variable.assign(variable / temperature)


def frozen_part(prefix: Any, size_px: int, pooling: Any = None) -> Any:
    """The function from raw images to the outputs of the frozen prefix, pooled or not.

    Images are no larger than ``size_px`` here, so that no filter is needed for shrinking.
    """
    preparation = build_preparation(size_px, family_of(prefix).scaling, antialias=False)

    def run(images: Any) -> Any:
        maps = prefix(preparation(images), training=False)
        return maps if pooling is None else pooling(maps)

    return run
