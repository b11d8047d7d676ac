"""Putting a freeze plan into force on a network."""

from __future__ import annotations

from typing import Any

from graftline.core.records import FreezePlan
from graftline.network.classifier import HEAD, POOLING, PREPARATION, TRUNK, without_softmax


def thaw(graft: Any, plan: FreezePlan) -> list[Any]:
    """Makes the plan's layers trainable and all others of the trunk frozen.

    Returns:
        The variables that stay frozen, BatchNormalization statistics included.
    """
    trunk = graft.get_layer(TRUNK)
    for layer in trunk.layers:
        layer.trainable = layer.name in plan.trainable
    trainable = {variable.path for variable in trunk.trainable_variables}
    return [variable for variable in trunk.variables if variable.path not in trainable]


def tuned_part(graft: Any, boundary: str | None, augmentation: Any = None) -> Any:
    """The network from the boundary to the logits; it shares the graft's weights.

    The trunk always runs in inference mode: its BatchNormalization statistics never move.

    Args:
        graft: The whole network.
        boundary: The layer whose outputs it takes; None for raw images.
        augmentation: Applied to raw images first, while training.
    """
    import keras

    trunk = graft.get_layer(TRUNK)
    if boundary is None:
        start = keras.Input(graft.input.shape[1:], dtype="uint8", name="images")
        images = start if augmentation is None else augmentation(start)
        maps = trunk(graft.get_layer(PREPARATION)(images), training=False)
    else:
        at_boundary = trunk.get_layer(boundary).output
        start = keras.Input(at_boundary.shape[1:], name="maps")
        maps = keras.Model(at_boundary, trunk.output)(start, training=False)
    head = without_softmax(graft.get_layer(HEAD))
    return keras.Model(start, head(graft.get_layer(POOLING)(maps)))
