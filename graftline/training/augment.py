"""Random changes to training images, all by stock Keras layers.

Two ways to the same changes: a model for the training network, which draws anew for every batch,
and views for the cache, which are drawn once from seed, view and the image's place in its split.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.params import AugmentParams
from graftline.data.decoding import Pixels
from graftline.network.classifier import CHANGE

_FULL_TURN_DEGREES = 360.0
_FILL = "nearest"
"""What fills the corners that a turn or a shift lays open: the nearest pixel of the border, which
is the background whether it is black (digits), white (scans) or a meadow. Black wedges in photos,
or around what is drawn on white, would be edges that no image to be predicted has."""


def build_augmentation(augment: AugmentParams, seed: int) -> Any:
    """The changes as a model, to stand before the network while it trains.

    Args:
        augment: Which changes, and how much of each.
        seed: Seed of the layers' random numbers.

    Returns:
        A ``keras.Model`` from uint8 (n, height, width, 1 or 3) of any size to the same shape and
        type, rounded and clipped to 0 to 255. It changes images with ``training=True`` only.
    """
    import keras
    from keras import ops

    images = keras.Input((None, None, None), dtype="uint8", name="images")
    changed = ops.cast(images, "float32")
    for layer in augmentation_layers(augment, seed):
        # Their own default is to change images; what is said here gives way to the model's caller.
        changed = layer(changed, training=False)
    rounded = ops.cast(ops.clip(ops.round(changed), 0, 255), "uint8")
    return keras.Model(images, rounded, name="augmentation")


def augmentation_layers(augment: AugmentParams, seed: int) -> list[Any]:
    """The Keras layers for the changes that are asked for, in the order in which they act.

    They take and give float32 images (n, height, width, c) from 0 to 255.
    """
    from keras import layers

    placing: dict[str, Any] = {"fill_mode": _FILL, "interpolation": "bilinear"}
    made: list[tuple[Any, dict[str, Any]]] = []
    if augment.flip != "none":
        mode = "horizontal_and_vertical" if augment.flip == "both" else augment.flip
        made.append((layers.RandomFlip, {"mode": mode}))
    if augment.rotation_degrees:
        share = augment.rotation_degrees / _FULL_TURN_DEGREES
        made.append((layers.RandomRotation, {"factor": share, **placing}))
    if augment.translation:
        shift = {"height_factor": augment.translation, "width_factor": augment.translation}
        made.append((layers.RandomTranslation, {**shift, **placing}))
    if augment.zoom:
        made.append((layers.RandomZoom, {"height_factor": augment.zoom, **placing}))
    if augment.contrast:
        # One number would only ever raise the contrast (Keras 3.15); two go both ways.
        made.append((layers.RandomContrast, {"factor": (augment.contrast, augment.contrast)}))
    if augment.brightness:
        made.append((layers.RandomBrightness, {"factor": augment.brightness}))
    # Their name keeps them so where the network computes in 16 bits.
    return [
        kind(**options, seed=seed + number, dtype="float32", name=f"{CHANGE}{number}")
        for number, (kind, options) in enumerate(made)
    ]


class AugmentedViews:
    """Changed views of the images of one split, the same whatever the batches they come in.

    Args:
        augment: Which changes, and how much of each.
        seed: Seed of all views.
        count: Images in the split.
    """

    def __init__(self, augment: AugmentParams, seed: int, count: int) -> None:
        self._layers = augmentation_layers(augment, seed)
        self._seed = seed
        self._count = count
        self._drawn: list[dict[str, Any]] = []
        self._drawing = threading.Lock()
        self._drawn_for: tuple[Any, ...] = ()

    def changed(self, images: Pixels, positions: NDArray[np.int64], view: int) -> Pixels:
        """One view of some images.

        Args:
            images: uint8 (n, height, width, c).
            positions: Their places in the split, (n,).
            view: Number of the view; 0 is the unchanged image.

        Returns:
            uint8 (n, height, width, c).
        """
        if view == 0:
            return images
        values: Any = images.astype(np.float32)
        for layer, draws in zip(self._layers, self._draws(view, images.shape[1:]), strict=True):
            here = {name: self._at(value, positions) for name, value in draws.items()}
            values = layer.transform_images(values, here, training=True)
        changed: Pixels = np.clip(np.rint(np.asarray(values)), 0, 255).astype(np.uint8)
        return changed

    def _draws(self, view: int, shape: tuple[int, ...]) -> list[dict[str, Any]]:
        """What each layer does to each image of the split, were they all of this shape."""
        # Threads may ask for two views at once.
        with self._drawing:
            if self._drawn_for != (view, shape):
                self._drawn = self._newly_drawn(view, shape)
                self._drawn_for = (view, shape)
            return self._drawn

    def _newly_drawn(self, view: int, shape: tuple[int, ...]) -> list[dict[str, Any]]:
        import keras

        # The layers look at the shape alone, so this array takes no memory.
        shaped = np.broadcast_to(np.float32(0), (self._count, *shape))
        drawn_by_layer = []
        for number, layer in enumerate(self._layers):
            # As one whole number, a seed would give a shift the same part down and right.
            entropy = np.random.SeedSequence((self._seed, view, number)).generate_state(1)
            generator = keras.random.SeedGenerator(int(entropy[0]) >> 1)
            drawn = layer.get_random_transformation(shaped, training=True, seed=generator)
            drawn_by_layer.append({name: _as_array(value) for name, value in drawn.items()})
        return drawn_by_layer

    def _at(self, value: Any, positions: NDArray[np.int64]) -> Any:
        # Beside one row per image there are plain facts, such as the height.
        return value[positions] if isinstance(value, np.ndarray) else value


def _as_array(value: Any) -> Any:
    return np.asarray(value) if getattr(value, "ndim", 0) else value
