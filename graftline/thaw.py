"""Putting a freeze plan into force on a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graftline.artifacts import FreezePlan
from graftline.graft import HEAD, POOLING, PREPARATION, TRUNK
from graftline.plans import POOLED


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


@dataclass(frozen=True)
class TrainedPart:
    """What training runs; it shares the graft's weights.

    Args:
        network: From pooled features, feature maps, or images, to probabilities (n, classes).
        pooled: From the same input to pooled features (n, c); none if that is the input.
    """

    network: Any
    pooled: Any | None


def trained_part(graft: Any, plan: FreezePlan) -> TrainedPart:
    """The network from the plan's boundary to the probabilities.

    The trunk always runs in inference mode: its BatchNormalization statistics never move.
    """
    import keras

    head = graft.get_layer(HEAD)
    if plan.boundary == POOLED:
        return TrainedPart(head, None)
    trunk = graft.get_layer(TRUNK)
    if plan.boundary is None:
        start = keras.Input(graft.input.shape[1:], dtype="uint8", name="images")
        maps = trunk(graft.get_layer(PREPARATION)(start), training=False)
    else:
        boundary = trunk.get_layer(plan.boundary).output
        start = keras.Input(boundary.shape[1:], name="maps")
        maps = keras.Model(boundary, trunk.output)(start, training=False)
    features = graft.get_layer(POOLING)(maps)
    return TrainedPart(keras.Model(start, head(features)), keras.Model(start, features))
