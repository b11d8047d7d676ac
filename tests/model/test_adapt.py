"""Adapted statistics are those of the new images, and go through all files alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from graftline.core.errors import MissingOutputError
from graftline.core.records import FreezePlan
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.network.batch_norm import (
    adapted_statistics,
    current_statistics,
    read_statistics,
    set_statistics,
    statistics_over,
    write_statistics,
)
from graftline.network.classifier import BACKBONE, HEAD, PREPARATION
from graftline.network.keras_io import variables_digest
from graftline.steps.extract import STATISTICS
from tests.model import small
from tests.unit.steps.test_evaluate import write_loaded


@pytest.mark.slow
def test_the_first_layers_statistics_are_the_moments_of_what_it_is_given(
    assembled: Workspace,
) -> None:
    classifier, images = small.untrained(assembled), PackedImages.open(assembled.preprocessed)
    backbone = classifier.get_layer(BACKBONE)
    before = variables_digest(backbone.variables)
    # Two batches of different sizes.
    indices = images.indices("train")[:93]
    found = adapted_statistics(backbone, images, indices)
    assert variables_digest(backbone.variables) == before
    assert {layer.trainable for layer in backbone.layers} <= {True, False}
    given = keras.Model(backbone.input, backbone.get_layer("bn_Conv1").input)
    maps = np.asarray(given(classifier.get_layer(PREPARATION)(images.batch(indices))))
    np.testing.assert_allclose(found["bn_Conv1/mean"], maps.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(found["bn_Conv1/variance"], maps.var((0, 1, 2)), rtol=1e-5)


def network(*between: Any) -> Any:
    """Normalizes, takes twice the value and one, and normalizes again."""
    inputs = keras.Input((1, 2, 1))
    first = keras.layers.BatchNormalization(epsilon=1, name="first", trainable=False)(inputs)
    for layer in between:
        first = layer(first)
    convolution = keras.layers.Conv2D(1, 1, name="twice")
    outputs = keras.layers.BatchNormalization(name="second")(convolution(first))
    convolution.set_weights([np.full((1, 1, 1, 1), 2.0), np.ones(1)])
    return keras.Model(inputs, outputs)


def pixels(*images: tuple[float, float]) -> np.ndarray:
    return np.array(images, np.float32).reshape(len(images), 1, 2, 1)


def plain(statistics: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(value[0]) for name, value in statistics.items()}


def test_values_worked_out_by_hand() -> None:
    backbone = network()
    before = variables_digest(backbone.variables)
    # In one batch: of 0, 2, 4, 10 the mean is 4 and the variance 14, so that the second layer is
    # given twice (x - 4) / sqrt(15), and one.
    found = plain(statistics_over(backbone, [pixels((0, 2), (4, 10))]))
    assert found == pytest.approx(
        {"first/mean": 4, "first/variance": 14, "second/mean": 1, "second/variance": 4 * 14 / 15},
        abs=1e-5,
    )
    # Of batches of two images and of one, 0 2 4 10 and 20 20: each image weighs the same, so the
    # mean is 56 / 6 and the variance 920 / 6 - (56 / 6) ** 2, as of all at once.
    parts = statistics_over(backbone, [pixels((0, 2), (4, 10)), pixels((20, 20))])
    assert plain(parts)["first/mean"] == pytest.approx(28 / 3, abs=1e-5)
    assert plain(parts)["first/variance"] == pytest.approx(920 / 6 - (28 / 3) ** 2, abs=1e-4)
    # The second layer saw nothing but ones of the last image.
    assert plain(parts)["second/variance"] == pytest.approx(4 * 14 / 15 * 2 / 3, abs=1e-5)
    assert variables_digest(backbone.variables) == before
    assert not backbone.get_layer("first").trainable


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.Dropout(0.9, noise_shape=(None, 1, 1, 1)),
        lambda: keras.layers.GaussianNoise(1.0),
        lambda: keras.layers.SpatialDropout2D(0.5),
        lambda: keras.layers.RandomFlip(),
    ],
    ids=["a residual's dropout", "noise", "channels' dropout", "augmentation"],
)
def test_what_is_random_while_training_has_no_part_in_it(layer: Callable[[], Any]) -> None:
    given = [pixels((0, 2), (4, 10), (-3, 1)), pixels((20, 20), (5, 6))]
    assert plain(statistics_over(network(layer()), given)) == plain(
        statistics_over(network(), given)
    )


@pytest.mark.slow
def test_how_images_are_batched_hardly_matters(assembled: Workspace) -> None:
    classifier, packed = small.untrained(assembled), PackedImages.open(assembled.preprocessed)
    backbone, indices = classifier.get_layer(BACKBONE), packed.indices("train")[:65]
    prepared = np.asarray(classifier.get_layer(PREPARATION)(packed.batch(indices)))
    at_once = statistics_over(backbone, [prepared])
    # 33 and 32 images, and not 64 and one: a layer deep inside is off by a hundredth at most.
    found = adapted_statistics(backbone, packed, indices)
    for name, expected in at_once.items():
        spread = np.sqrt(at_once[name.replace("/mean", "/variance")] + 1e-3)
        scale = spread if name.endswith("/mean") else spread**2
        np.testing.assert_allclose(found[name] / scale, expected / scale, atol=0.05, err_msg=name)
    # In one batch they are exactly what the layers are given once they have them.
    before = current_statistics(backbone)
    set_statistics(backbone, at_once)
    last = [layer for layer in backbone.layers if f"{layer.name}/mean" in at_once][-1]
    maps = np.asarray(keras.Model(backbone.input, last.input)(prepared))
    set_statistics(backbone, before)
    np.testing.assert_allclose(at_once[f"{last.name}/mean"], maps.mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(at_once[f"{last.name}/variance"], maps.var((0, 1, 2)), rtol=1e-3)


def test_images_of_many_shapes_count_like_those_of_one(
    assembled: Workspace, tmp_path: Path
) -> None:
    mixed = Workspace(tmp_path)
    write_loaded(mixed, {"train": [0, 1, 2] * 6, "test": []})
    packed, backbone = (
        PackedImages.open(mixed.loaded),
        small.untrained(assembled).get_layer(BACKBONE),
    )
    assert packed.uniform_shape is None
    preparation = small.untrained(assembled).get_layer(PREPARATION)
    prepared = np.concatenate([preparation(packed.batch([at])) for at in range(len(packed))])
    expected = statistics_over(backbone, [prepared])
    found = adapted_statistics(backbone, packed, np.arange(len(packed)))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_of_a_backbone_without_such_layers_there_are_none(assembled: Workspace) -> None:
    inputs = keras.Input((8, 8, 3))
    backbone = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))
    images = PackedImages.open(assembled.preprocessed)
    assert adapted_statistics(backbone, images, np.arange(3)) == {}


def test_they_come_back_from_their_file(assembled: Workspace, tmp_path: Path) -> None:
    backbone = small.untrained(assembled).get_layer(BACKBONE)
    statistics = {name: value + 1 for name, value in current_statistics(backbone).items()}
    write_statistics(statistics, tmp_path / STATISTICS)
    set_statistics(backbone, read_statistics(tmp_path / STATISTICS))
    found = current_statistics(backbone)
    assert all(np.array_equal(found[name], value) for name, value in statistics.items())
    with pytest.raises(MissingOutputError, match="not there"):
        read_statistics(tmp_path / "nowhere.npz")


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", [pytest.param("all", marks=pytest.mark.slow), {"last_blocks": 1}]
)
def test_training_and_export_go_by_the_adapted_statistics(
    strategy: object, assembled: Workspace, tmp_path: Path
) -> None:
    workspace = small.copied(assembled, tmp_path)
    params = small.small_params(
        strategy, freeze={"batch_norm": "adapt"}, train={"epochs": 2}, tune={"epochs": 1}
    )
    record = small.finish(workspace, params)
    assert FreezePlan.read(workspace.freeze_plan).batch_norm == "adapt"
    adapted = read_statistics(workspace.features / STATISTICS)
    backbone = small.trained(workspace).get_layer(BACKBONE)
    found = current_statistics(backbone)
    assert all(np.array_equal(found[name], value) for name, value in adapted.items())
    assert record.frozen_digest_before == record.frozen_digest_after
    # What is cached is what the exported network gives to its head.
    images = PackedImages.open(workspace.preprocessed)
    pooled = "train.npy" if strategy == "all" else "train-pooled.npy"
    if strategy == "all":
        model = small.trained(workspace)
        features = np.load(workspace.features / pooled)
        cached = small.answers(model.get_layer(HEAD), features)
        direct = small.answers(model, images.batch(images.indices("train")))
        np.testing.assert_allclose(cached, direct, atol=1e-4)
