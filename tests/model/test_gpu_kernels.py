"""What a GPU would do of a training and of a frozen part, by the kernels that TensorFlow names.

The package for Linux has the kernels of GPUs compiled in, whether there is one or not. So it can be
told here which operation would have to leave the card, and which one TensorFlow refuses where the
same bytes are asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from graftline.core.params import AugmentParams, HeadParams, TrainParams, TuneParams
from graftline.network.classifier import (
    BACKBONE,
    CHANGE,
    build_classifier,
    build_pooling,
    frozen_part,
)
from graftline.network.cutting import build_base, cut_after, layer_records
from graftline.network.precision import computing_in
from graftline.network.unfreezing import tuned_part
from graftline.training.augment import build_augmentation
from graftline.training.loop import Loop
from graftline.training.phases import tuning_groups

SIZE_PX = 32
AUGMENT = AugmentParams(
    flip="horizontal", rotation_degrees=10, translation=0.1, zoom=0.1, contrast=0.2, brightness=0.1
)
CALLS = {"Placeholder", "PartitionedCall", "StatefulPartitionedCall", "StatelessWhile", "While"}
REFUSED = {
    *("AdjustContrast", "AdjustContrastv2", "Bincount", "CropAndResizeGradBoxes"),
    *("CropAndResizeGradImage", "DenseBincount", "Dilation2DBackpropFilter"),
    *("Dilation2DBackpropInput", "FusedBatchNormGrad", "FusedBatchNormGradV2"),
    *("FusedBatchNormGradV3", "MaxPoolGradWithArgmax", "ResizeNearestNeighborGrad", "SegmentSum"),
    *("SegmentSumV2", "SoftmaxCrossEntropyWithLogits", "SparseTensorDenseMatMul"),
    *("UnsortedSegmentMax", "UnsortedSegmentMin", "UnsortedSegmentProd", "UnsortedSegmentSum"),
}
"""Of which TensorFlow says that no GPU does them, or their like, with the same bytes each time."""


@pytest.fixture
def same_bytes() -> Iterator[None]:
    """Functions are traced as for a GPU that is held to the same bytes."""
    import tensorflow as tf
    from tensorflow.python.framework.config import disable_op_determinism

    if not tf.sysconfig.get_build_info()["is_cuda_build"]:
        pytest.skip("this TensorFlow has no kernels of GPUs")
    tf.config.experimental.enable_op_determinism()
    yield
    disable_op_determinism()


@pytest.mark.slow
@pytest.mark.usefixtures("same_bytes")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_step_stays_on_the_card(precision: str) -> None:
    import tensorflow as tf

    base = build_base(SIZE_PX, 0.35, seed=0)
    layers = layer_records(base)
    classifier = build_classifier(cut_after(base, layers[-1].name), HeadParams(), 10, seed=0)
    for layer in classifier.get_layer(BACKBONE).layers:
        layer.trainable = type(layer).__name__ != "BatchNormalization"
    groups = tuning_groups(classifier, layers, TuneParams(), 100)
    network = tuned_part(classifier, None, build_augmentation(AUGMENT, 0))
    objective, labels = TrainParams(mixup=0.2, ema=0.9), np.arange(10, dtype=np.int32)
    loop = Loop(network, groups, objective, 8, labels, 0, precision)
    with computing_in(precision, network):
        traced = loop._train_chunk.get_concrete_function(
            tf.TensorSpec((None, None, 28, 28, 1), tf.uint8),
            tf.TensorSpec((None, None), tf.int64),
            tf.TensorSpec((), tf.int32),
        )
    nodes = nodes_of(traced)
    assert not off_the_card(nodes)
    assert not {node.op for node in nodes} & REFUSED
    # Changed images keep their greys: 16 bits have 8 of them for the value.
    changed = [node for node in nodes if f"/{CHANGE}" in node.name and "T" in node.attr]
    assert changed
    assert not [node for node in changed if node.attr["T"].type == tf.bfloat16.as_datatype_enum]
    assert not host_comparisons(nodes)


@pytest.mark.slow
@pytest.mark.usefixtures("same_bytes")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_frozen_part_stays_on_the_card(precision: str) -> None:
    import tensorflow as tf

    base = build_base(SIZE_PX, 0.35, seed=0)
    function = tf.function(frozen_part(base, SIZE_PX, build_pooling("average")))
    with computing_in(precision, base):
        images = tf.TensorSpec((None, None, None, None), tf.uint8)
        nodes = nodes_of(function.get_concrete_function(images))
    assert not off_the_card(nodes)
    assert not {node.op for node in nodes} & REFUSED


def nodes_of(traced: Any) -> list[Any]:
    graph = traced.graph.as_graph_def()
    inner = [node for function in graph.library.function for node in function.node_def]
    return [node for node in (*graph.node, *inner) if node.op not in CALLS]


def off_the_card(nodes: list[Any]) -> set[str]:
    """Operations with kernels for the cores alone, in the types that they have here."""
    return {node.op for node in nodes if kernels(node.op) and not on_gpu(node)}


def on_gpu(node: Any) -> bool:
    return any(
        one.device_type in ("GPU", "DEFAULT") and all(allows(each, node) for each in one.constraint)
        for one in kernels(node.op)
    )


def allows(constraint: Any, node: Any) -> bool:
    given = node.attr[constraint.name]
    types = [given.type] if given.WhichOneof("value") == "type" else given.list.type
    return set(types) <= set(constraint.allowed_values.list.type)


def host_comparisons(nodes: list[Any]) -> list[str]:
    """Comparisons of 32-bit whole numbers, which lie on the host."""
    import tensorflow as tf

    return [
        node.name
        for node in nodes
        if node.op == "Equal"
        and node.attr["T"].type == tf.int32.as_datatype_enum
        and any("ArgMax" in one for one in node.input)
    ]


@functools.cache
def kernels(operation: str) -> Any:
    from tensorflow.python.framework.kernels import get_registered_kernels_for_op

    return get_registered_kernels_for_op(operation).kernel
