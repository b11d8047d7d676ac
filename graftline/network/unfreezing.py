"""Putting a freeze plan into force on a network."""

from __future__ import annotations

from typing import Any

from graftline.core.backbones import family_of
from graftline.core.records import FreezePlan
from graftline.network.classifier import BACKBONE, HEAD, POOLING, build_preparation, without_softmax


def thaw(classifier: Any, plan: FreezePlan) -> list[Any]:
    """Makes the plan's layers trainable and all others of the backbone frozen.

    Returns:
        The variables that stay frozen, BatchNormalization statistics included.
    """
    backbone = classifier.get_layer(BACKBONE)
    for layer in backbone.layers:
        layer.trainable = layer.name in plan.trainable
    trainable = {variable.path for variable in backbone.trainable_variables}
    return [variable for variable in backbone.variables if variable.path not in trainable]


def tuned_part(classifier: Any, boundary: str | None, augmentation: Any = None) -> Any:
    """The network from the boundary to the logits; it shares the classifier's weights.

    The backbone always runs in inference mode: its BatchNormalization statistics never move.

    Args:
        classifier: The whole network.
        boundary: The layer whose outputs it takes; None for raw images.
        augmentation: Applied to raw images first, while training.
    """
    import keras

    backbone = classifier.get_layer(BACKBONE)
    if boundary is None:
        start = keras.Input(classifier.input.shape[1:], dtype="uint8", name="images")
        images = start if augmentation is None else augmentation(start)
        # Images are no larger than the input, so that no filter is needed; GPUs have none.
        preparation = build_preparation(
            int(backbone.input.shape[1]), family_of(backbone).scaling, antialias=False
        )
        maps = backbone(preparation(images), training=False)
    else:
        at_boundary = backbone.get_layer(boundary).output
        start = keras.Input(at_boundary.shape[1:], name="maps")
        maps = keras.Model(at_boundary, backbone.output)(start, training=False)
    head = without_softmax(classifier.get_layer(HEAD))
    return keras.Model(start, head(classifier.get_layer(POOLING)(maps)))
