"""Putting a freeze plan into force on a network."""

from __future__ import annotations

from typing import Any

from graftline.artifacts import FreezePlan
from graftline.freeze import POOLED
from graftline.graft import HEAD, POOLING, PREPARATION, TRUNK


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


def trained_part(graft: Any, plan: FreezePlan) -> Any:
    """The network from the plan's boundary to the probabilities; it shares the graft's weights.

    The trunk always runs in inference mode: its BatchNormalization statistics never move.

    Returns:
        A ``keras.Model`` from pooled features, feature maps, or images, to (n, classes).
    """
    import keras

    head = graft.get_layer(HEAD)
    if plan.boundary == POOLED:
        return head
    trunk = graft.get_layer(TRUNK)
    if plan.boundary is None:
        start = keras.Input(graft.input.shape[1:], dtype="uint8", name="images")
        maps = trunk(graft.get_layer(PREPARATION)(start), training=False)
    else:
        boundary = trunk.get_layer(plan.boundary).output
        start = keras.Input(boundary.shape[1:], name="maps")
        maps = keras.Model(boundary, trunk.output)(start, training=False)
    return keras.Model(start, head(graft.get_layer(POOLING)(maps)))
