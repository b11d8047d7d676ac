"""One contract for every backbone: built, cut, planned, converted, saved, trained for a step."""

from __future__ import annotations

import importlib
import inspect
import warnings
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graftline.core.backbone_cuts import cuts_of
from graftline.core.backbones import FAMILIES, Family, family_of
from graftline.core.errors import MissingOutputError, ParamsError
from graftline.core.params import FirstBlocks, HeadParams, LastBlocks
from graftline.core.records import Assembled
from graftline.core.stages import POOLED
from graftline.network.batch_norm import current_statistics, statistics_over
from graftline.network.classifier import (
    BACKBONE,
    HEAD,
    build_classifier,
    build_pooling,
    build_preparation,
    frozen_part,
)
from graftline.network.cutting import _clean_layers, build_base, cut_after, layer_records
from graftline.network.freeze_plans import Strategy, blocks_of, plan_freezing
from graftline.network.keras_io import convert_to_litert, load_model, save_model, variables_digest
from graftline.network.runners.litert import LiteRunner
from graftline.network.unfreezing import thaw, tuned_part
from tests.model import small

# One of each make; the others differ in depth and width alone.
MAKES = (
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetV2B0",
    "ResNet50",
    "ResNet50V2",
    "DenseNet121",
    "VGG16",
    "Xception",
)
# The default network and one that differs from it in all that matters here stand for the others,
# which are tested likewise by `make test-slow`.
QUICK = ("MobileNetV2", "EfficientNetV2B0")
TESTED = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MAKES]
# What Keras itself gives its networks; those that are absent scale in a layer of their own.
KERAS_MODULES = {
    "MobileNetV2": "mobilenet_v2",
    "ResNet50": "resnet",
    "ResNet50V2": "resnet_v2",
    "DenseNet121": "densenet",
    "VGG16": "vgg16",
    "Xception": "xception",
}
SCALE_THEMSELVES = (
    "MobileNetV3Small",
    "EfficientNetV2B0",
    pytest.param("EfficientNetV2S", marks=pytest.mark.slow),
)
# Their first quarter stands for the rest, so that the tests stay quick.
LARGE = ("EfficientNetV2B0", "ResNet50", "ResNet50V2", "DenseNet121", "VGG16", "Xception")


def size_of(family: Family) -> int:
    return max(32, family.smallest_px)


def images(count: int, size_px: int) -> np.ndarray:
    return np.stack([small.pattern(n % 3, size_px, size_px, 3, seed=n) for n in range(count)])


@pytest.fixture(scope="module", params=TESTED)
def base(request: pytest.FixtureRequest) -> Any:
    family = FAMILIES[request.param]
    return build_base(size_of(family), family.alphas[0], 1, family.name)


@pytest.fixture(scope="module")
def assembled(base: Any) -> Assembled:
    return record_of(base)


def record_of(base: Any, cut: str | None = None) -> Assembled:
    family = family_of(base)
    return Assembled(
        backbone=family.name,
        alpha=family.alphas[0],
        size_px=size_of(family),
        cut=cut or family.last_layer,
        weights="random",
        weights_sha256=None,
        backbone_digest="",
        layers=layer_records(base),
        pooling="average",
        head_units=(),
        dropout=0.0,
        classes=("0", "1", "2"),
    )


def cut_at(assembled: Assembled, share: float) -> str:
    """The last clean layer of the block below which this share of the blocks lies."""
    blocks = blocks_of(assembled.layers)
    wanted = blocks[: int(share * len(blocks)) + 1]
    return [layer.name for layer in assembled.layers if layer.clean and layer.block in wanted][-1]


@pytest.fixture(scope="module")
def backbone(base: Any, assembled: Assembled) -> Any:
    return cut_after(base, cut_at(assembled, 0.25)) if family_of(base).name in LARGE else base


def test_the_layers_are_those_of_the_network(base: Any, assembled: Assembled) -> None:
    layers = assembled.layers
    assert layers[-1].name == family_of(base).last_layer == assembled.cut
    assert sum(layer.params for layer in layers) == base.count_params()
    assert layers[-1].clean and layers[-1].output_shape == tuple(base.output.shape[1:])
    of_network = {layer.name: layer for layer in base.layers}
    for layer in layers:
        costs = any(word in layer.kind for word in ("Conv", "Dense"))
        assert (layer.multiply_adds > 0) == costs, layer
        # Statistics move in BatchNormalization alone, which never trains.
        moving = bool(of_network[layer.name].non_trainable_weights)
        assert moving == (layer.kind == "BatchNormalization"), layer


def test_blocks_follow_one_another(assembled: Assembled) -> None:
    blocks = [block for block, _ in groupby(layer.block for layer in assembled.layers)]
    inner = [block for block in blocks if block not in ("stem", "top")]
    assert inner == [f"block_{number}" for number in range(len(inner))]
    assert len(inner) >= 5
    assert blocks in (["stem", *inner, "top"], ["stem", *inner], inner)


@pytest.mark.parametrize(
    "strategy", ["all", "none", LastBlocks(last_blocks=2), FirstBlocks(first_blocks=1)]
)
def test_every_strategy_gives_a_plan(assembled: Assembled, strategy: Strategy) -> None:
    plan = plan_freezing(assembled, strategy)
    by_name = {layer.name: layer for layer in assembled.layers}
    blocks = blocks_of(assembled.layers)
    expected = {
        "all": set(),
        "none": set(blocks),
        "last_blocks: 2": set(blocks[-2:]),
        "first_blocks: 1": set(blocks[:1]),
    }[plan.strategy]
    assert {by_name[name].block for name in plan.trainable} == expected
    assert all(by_name[name].kind != "BatchNormalization" for name in plan.trainable)
    if plan.strategy == "last_blocks: 2":
        assert plan.boundary is not None and by_name[plan.boundary].clean
        names = list(by_name)
        assert names.index(plan.boundary) < names.index(plan.trainable[0])
    elif plan.strategy == "all":
        assert plan.boundary == POOLED


def test_litert_gives_the_features_that_keras_gives(backbone: Any, tmp_path: Path) -> None:
    import keras

    size_px, pooling = size_of(family_of(backbone)), build_pooling("average")
    path = tmp_path / "frozen.tflite"
    path.write_bytes(convert_to_litert(frozen_part(backbone, size_px, pooling)))
    start = keras.Input((None, None, None), dtype="uint8")
    preparation = build_preparation(size_px, family_of(backbone).scaling)
    slow = keras.Model(start, pooling(backbone(preparation(start), training=False)))
    with LiteRunner(path, workers=1) as runner:
        for given in (images(3, size_px), images(2, 21)[..., :1]):
            expected = small.answers(slow, given)
            scale = np.abs(expected).max()
            assert scale > 0
            np.testing.assert_allclose(runner.run(given) / scale, expected / scale, atol=1e-3)


def test_a_saved_network_is_the_same_network(backbone: Any, tmp_path: Path) -> None:
    save_model(backbone, tmp_path / "backbone.keras")
    loaded = load_model(tmp_path / "backbone.keras")
    assert family_of(loaded) is family_of(backbone)
    assert variables_digest(loaded.variables) == variables_digest(backbone.variables)
    assert layer_records(loaded) == layer_records(backbone)


def test_a_step_moves_the_planned_layers_alone(base: Any, assembled: Assembled) -> None:
    import keras
    import tensorflow as tf

    cut = cut_at(assembled, 0.5)
    plan = plan_freezing(record_of(base, cut), LastBlocks(last_blocks=2))
    classifier = build_classifier(cut_after(base, cut), HeadParams(units=(), dropout=0), 3, seed=0)
    frozen = thaw(classifier, plan)
    digest = variables_digest(frozen)
    part, backbone = tuned_part(classifier, plan.boundary), classifier.get_layer(BACKBONE)
    given = images(6, size_of(family_of(base)))
    prepared = build_preparation(given.shape[1], family_of(base).scaling)(given)
    prefix = keras.Model(backbone.input, backbone.get_layer(plan.boundary).output)
    maps = prefix(prepared, training=False)
    answers = tf.nn.softmax(part(maps, training=False))
    np.testing.assert_allclose(answers, classifier(given, training=False), atol=1e-3)
    before = {layer.name: layer.get_weights() for layer in backbone.layers}
    variables = part.trainable_variables
    with tf.GradientTape() as tape:
        logits = part(maps, training=True)
        losses = keras.losses.sparse_categorical_crossentropy(
            np.arange(6) % 3, logits, from_logits=True
        )
        loss = tf.reduce_mean(losses)
    for variable, gradient in zip(
        variables, tape.gradient(loss, [v.value for v in variables]), strict=True
    ):
        size = tf.reduce_max(tf.abs(gradient))
        variable.assign_sub(0.01 * tf.math.divide_no_nan(gradient, size))
    moved = {
        layer.name
        for layer in backbone.layers
        if any(
            not np.array_equal(old, new)
            for old, new in zip(before[layer.name], layer.get_weights(), strict=True)
        )
    }
    assert moved == set(plan.trainable)
    assert variables_digest(frozen) == digest
    assert {v.path for v in classifier.get_layer(HEAD).trainable_variables} <= {
        v.path for v in variables
    }


@pytest.mark.slow
def test_adapting_draws_nothing_at_random(base: Any, assembled: Assembled) -> None:
    backbone = cut_after(base, cut_at(assembled, 0.3))
    given = images(4, size_of(family_of(base)))
    prepared = build_preparation(given.shape[1], family_of(base).scaling)(given).numpy()
    once, again = (statistics_over(backbone, [prepared[:2], prepared[2:]]) for _ in range(2))
    assert once.keys() == current_statistics(backbone).keys()
    assert all(np.array_equal(once[name], again[name]) for name in once)
    assert all(np.isfinite(value).all() for value in once.values())


@pytest.mark.parametrize("name", KERAS_MODULES)
def test_scaling_is_that_of_keras(name: str) -> None:
    module = getattr(importlib.import_module("keras.applications"), KERAS_MODULES[name])
    given = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    expected = module.preprocess_input(given.astype(np.float32))
    ours = np.asarray(build_preparation(32, FAMILIES[name].scaling)(given))
    np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.mark.parametrize("name", SCALE_THEMSELVES)
def test_scaling_is_that_of_the_layer_in_keras(name: str) -> None:
    import keras

    network = getattr(keras.applications, name)(
        input_shape=(32, 32, 3), include_top=False, weights=None, include_preprocessing=True
    )
    scaling = [
        layer for layer in network.layers if type(layer).__name__ in ("Rescaling", "Normalization")
    ]
    scaled = keras.Model(network.input, scaling[-1].output)
    given = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    ours = np.asarray(build_preparation(32, FAMILIES[name].scaling)(given))
    np.testing.assert_allclose(ours, np.asarray(scaled(given.astype(np.float32))), atol=1e-4)


class _Asked(Exception):
    """What Keras would download."""


@pytest.mark.parametrize("name", TESTED)
def test_the_imagenet_file_is_the_one_that_keras_takes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras
    from keras.src.utils import file_utils

    family = FAMILIES[name]
    alpha, size_px = family.alphas[0], max(96, family.smallest_px)
    constructor = getattr(keras.applications, name)

    def asked(file: str, address: str, file_hash: str | None = None, **_: Any) -> None:
        raise _Asked(file, address.rpartition("/")[0].rpartition("/")[2], file_hash)

    monkeypatch.setattr(file_utils, "get_file", asked)
    width = {"alpha": alpha} if len(family.alphas) > 1 else {}
    # Of sizes for which there is no file of their own; parameters refuse what has one.
    with warnings.catch_warnings(action="ignore"), pytest.raises(_Asked) as caught:
        constructor(
            input_shape=(size_px, size_px, 3),
            include_top=False,
            weights="imagenet",
            **width,
            **family.arguments,
        )
    assert caught.value.args == (
        family.imagenet_file(alpha, size_px),
        family.folder,
        family.md5.get(alpha),
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_hashes_and_widths_are_those_of_keras(name: str) -> None:
    import keras

    family = FAMILIES[name]
    constructor = getattr(keras.applications, name)
    parameters = inspect.signature(constructor).parameters
    assert ("alpha" in parameters) == (len(family.alphas) > 1)
    assert ("include_preprocessing" in parameters) == bool(family.arguments)
    # Where the constructor and the hashes stand: ResNetV2's lie in ResNet's module.
    sources = inspect.getsource(inspect.getmodule(constructor))
    if "resnet" in name.lower():
        sources += inspect.getsource(inspect.getmodule(keras.applications.ResNet50))
    for md5 in family.md5.values():
        assert md5 in sources
    assert sorted({**family.md5}) == ([] if name == "MobileNetV2" else list(family.alphas))


# Kernel height x width x inputs x outputs, at each place of the output.
COUNTED = {
    "MobileNetV2": {
        "Conv1": 3 * 3 * 3 * 16 * 16 * 16,
        # Depthwise: each channel by itself.
        "expanded_conv_depthwise": 3 * 3 * 16 * 16 * 16,
        "Conv_1": 112 * 1280,
    },
    # Squeeze and excite: two dense layers at one place, 16 channels to 8 and back.
    "MobileNetV3Small": {
        "expanded_conv_squeeze_excite_conv": 16 * 8,
        "expanded_conv_squeeze_excite_conv_1": 8 * 16,
    },
    # Separable: depthwise, then 1x1; 71 px are 33 after the first two layers.
    "Xception": {"block2_sepconv1": (3 * 3 * 64 + 64 * 128) * 33 * 33, "block1_conv1_bn": 0},
}


@pytest.mark.parametrize(
    "name", ["MobileNetV2", "MobileNetV3Small", pytest.param("Xception", marks=pytest.mark.slow)]
)
def test_multiply_adds_are_those_counted_by_hand(name: str) -> None:
    family = FAMILIES[name]
    layers = layer_records(build_base(size_of(family), family.alphas[0], 1, name))
    found = {layer.name: layer.multiply_adds for layer in layers}
    assert {layer: found[layer] for layer in COUNTED[name]} == COUNTED[name]


def test_a_grouped_convolution_counts_its_own_group_alone() -> None:
    import keras

    from graftline.network.cutting import multiply_adds_of

    layer = keras.layers.Conv2D(8, 3, groups=4, padding="same")
    layer(keras.Input((5, 6, 16)))
    assert multiply_adds_of(layer) == 3 * 3 * (16 // 4) * 8 * 5 * 6


@pytest.mark.parametrize(
    "name", ["MobileNetV2", pytest.param("ResNet50V2", marks=pytest.mark.slow)]
)
def test_multiply_adds_are_those_that_tensorflow_counts(name: str) -> None:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    base = build_base(64, FAMILIES[name].alphas[0], 1, name)
    function = tf.function(lambda images: base(images, training=False))
    graph = convert_variables_to_constants_v2(
        function.get_concrete_function(tf.TensorSpec((1, 64, 64, 3)))
    ).graph
    profiler = tf.compat.v1.profiler
    options = (
        profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
        .with_empty_output()
        .build()
    )
    node = profiler.profile(graph, cmd="op", options=options)
    total, by_kind = node.total_float_ops, dict[str, int]()
    while node.children:  # Each kind of operation hangs below the one before it.
        node = node.children[0]
        by_kind[node.name] = node.float_ops
    convolutions = by_kind["Conv2D"] + by_kind.get("DepthwiseConv2dNative", 0)
    ours = sum(layer.multiply_adds for layer in layer_records(base))
    assert convolutions == 2 * ours
    # What is left are BatchNormalization, biases, activations and sums.
    assert total < 2 * ours * 1.06


@pytest.mark.parametrize(
    ("name", "cut", "whole"),
    [
        pytest.param(
            "ResNet50V2", "conv3_block1_3_conv", "conv3_block1_out", marks=pytest.mark.slow
        ),
        ("EfficientNetV2B0", "block4a_se_squeeze", ""),
    ],
)
def test_a_cut_on_a_side_path_is_refused(name: str, cut: str, whole: str) -> None:
    with pytest.raises(ParamsError, match="side path") as caught:
        cut_after(build_base(32, 1.0, 1, name), cut)
    assert whole in str(caught.value.fix)


def test_a_network_of_none_of_the_families_is_refused() -> None:
    import keras

    start = keras.Input((4,), name="mine")
    network = keras.Model(start, keras.layers.Dense(1)(start))
    with pytest.raises(MissingOutputError, match="mine"):
        family_of(network)


@pytest.mark.slow
def test_the_same_model_gives_the_same_file_wherever_its_objects_lie(tmp_path: Path) -> None:
    # Built beside each other, so that no object of one lies where one of the other does.
    twins = [build_base(32, 0.35, 0, "MobileNetV2") for _ in range(2)]
    for number, twin in enumerate(twins):
        save_model(twin, tmp_path / f"{number}.keras")
    assert (tmp_path / "0.keras").read_bytes() == (tmp_path / "1.keras").read_bytes()
    loaded = load_model(tmp_path / "0.keras")
    assert variables_digest(loaded.variables) == variables_digest(twins[1].variables)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_list_of_cuts_is_that_of_the_network(name: str) -> None:
    for alpha in FAMILIES[name].alphas:
        base = build_base(96, alpha, 0, name)
        clean = _clean_layers(base)
        maps = [one.name for one in base.layers[1:] if len(one.output.shape) == 4]
        assert cuts_of(name) == [one for one in maps if one in clean], alpha
