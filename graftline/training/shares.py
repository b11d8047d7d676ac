"""Which examples of a batch a replica works on, and random numbers that do not depend on it.

A batch is cut into equal shares, one for each replica. Where it does not come out even, the last
share is filled up with examples that count for nothing. Whatever is random is drawn for the whole
batch by each replica, which takes what belongs to its share: so the numbers of replicas changes no
number that is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Share:
    """A replica's part of a batch.

    Args:
        count: Examples in the whole batch.
        places: Which of them these are, int32 (n,).
        counts: Whether each counts, float32 (n,): 0 for what only fills the share up.
    """

    count: Any
    places: Any
    counts: Any


_SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


def share_of(replica: Any, size: Any, count: Any) -> Share:
    """The share of one replica, as tensors.

    Args:
        replica: Its number, from 0.
        size: Examples in each share.
        count: Examples in the whole batch.
    """
    import tensorflow as tf

    places = replica * size + tf.range(size)
    return Share(count, places % count, tf.cast(places < count, tf.float32))


def places_of(replica: int, replicas: int, count: int, before: int = 0) -> NDArray[np.int64]:
    """Places in the whole batch of one replica's examples.

    Args:
        replica: Its number, from 0.
        replicas: How many there are.
        count: Examples in the whole batch.
        before: How many neighbours before the first one come with them.
    """
    size = -(-count // replicas)
    places: NDArray[np.int64] = (replica * size + np.arange(-before, size)) % count
    return places


@contextmanager
def working_on(share: Share | None) -> Iterator[None]:
    """Has what is traced in the block draw for the whole batch; None: its batch is the whole."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


def drawn(draw: Callable[[Any], Any], size: Any) -> Any:
    """Random numbers for the examples at hand.

    Args:
        draw: From a number of examples to a tensor (number, ...).
        size: How many examples there are at hand.
    """
    import tensorflow as tf

    share = _SHARE.get()
    if share is None:
        return draw(size)
    return tf.gather(draw(share.count), share.places)


def with_shared_draws(network: Any) -> Any:
    """The same network, its weights included, whose random layers draw as :func:`drawn` does."""
    import keras

    def replaced(layer: Any) -> Any:
        if isinstance(layer, keras.layers.Dropout):
            return _shared_dropout(layer)
        # Those of the augmentation; Resizing is of their kind, and draws nothing.
        if hasattr(layer, "get_random_transformation") and hasattr(layer, "generator"):
            return _shared_change(layer)
        return layer

    return keras.models.clone_model(network, clone_function=replaced, recursive=True)


def _shared_dropout(layer: Any) -> Any:
    import keras
    import tensorflow as tf

    class SharedDropout(keras.layers.Layer):  # type: ignore[misc]
        """Drops what ``layer`` would drop of these examples, were they shown with all others."""

        def __init__(self) -> None:
            super().__init__(name=layer.name, dtype=layer.dtype_policy)
            self.seed_generator = layer.seed_generator

        def call(self, inputs: Any, training: bool = False) -> Any:
            if not training:
                return inputs

            def keeps(count: Any) -> Any:
                ones = tf.ones(tf.concat([[count], tf.shape(inputs)[1:]], axis=0), inputs.dtype)
                return keras.random.dropout(ones, layer.rate, seed=self.seed_generator)

            return inputs * drawn(keeps, tf.shape(inputs)[0])

    return SharedDropout()


def _shared_change(layer: Any) -> Any:
    import keras
    import tensorflow as tf

    class SharedChange(keras.layers.Layer):  # type: ignore[misc]
        """Changes these images as ``layer`` would, were they shown with all others."""

        def __init__(self) -> None:
            super().__init__(name=layer.name, dtype=layer.dtype_policy)
            self.layer = layer

        def call(self, images: Any, training: bool = False) -> Any:
            share = _SHARE.get()
            if not training or share is None:
                return self.layer(images, training=training)
            # The layer looks at the shape alone.
            shaped = tf.zeros(tf.concat([[share.count], tf.shape(images)[1:]], axis=0))
            draws = self.layer.get_random_transformation(shaped, training=True)
            # Beside one row per image there are plain facts, such as the height.
            here = {
                name: tf.gather(value, share.places)
                if tf.is_tensor(value) and value.shape.rank
                else value
                for name, value in draws.items()
            }
            return self.layer.transform_images(images, here, training=True)

    return SharedChange()
