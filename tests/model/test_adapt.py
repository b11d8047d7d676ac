"""Adapted statistics are those of the new images, and go through all files alike."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from graftline.adapt import (
    adapted_statistics,
    current_statistics,
    read_statistics,
    set_statistics,
    write_statistics,
)
from graftline.artifacts import FreezePlan
from graftline.errors import MissingOutputError
from graftline.extract import STATISTICS
from graftline.graft import HEAD, PREPARATION, TRUNK
from graftline.keras_files import variables_digest
from graftline.packed import PackedImages
from graftline.workspace import Workspace
from tests.model import small


def test_the_first_layers_statistics_are_the_moments_of_what_it_is_given(
    assembled: Workspace,
) -> None:
    graft, images = small.untrained(assembled), PackedImages.open(assembled.preprocessed)
    trunk = graft.get_layer(TRUNK)
    before = variables_digest(trunk.variables)
    indices = images.indices("train")[:64]
    found = adapted_statistics(trunk, images, indices)
    assert variables_digest(trunk.variables) == before
    assert {layer.trainable for layer in trunk.layers} <= {True, False}
    given = keras.Model(trunk.input, trunk.get_layer("bn_Conv1").input)
    maps = np.asarray(given(graft.get_layer(PREPARATION)(images.batch(indices))))
    np.testing.assert_allclose(found["bn_Conv1/mean"], maps.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(found["bn_Conv1/variance"], maps.var((0, 1, 2)), rtol=1e-2)


def test_they_come_back_from_their_file(assembled: Workspace, tmp_path: Path) -> None:
    trunk = small.untrained(assembled).get_layer(TRUNK)
    statistics = {name: value + 1 for name, value in current_statistics(trunk).items()}
    write_statistics(statistics, tmp_path / STATISTICS)
    set_statistics(trunk, read_statistics(tmp_path / STATISTICS))
    found = current_statistics(trunk)
    assert all(np.array_equal(found[name], value) for name, value in statistics.items())
    with pytest.raises(MissingOutputError, match="not there"):
        read_statistics(tmp_path / "nowhere.npz")


@pytest.mark.parametrize(
    "strategy", [pytest.param("all", marks=pytest.mark.slow), {"last_blocks": 1}]
)
def test_training_and_export_go_by_the_adapted_statistics(
    strategy: object, assembled: Workspace, tmp_path: Path
) -> None:
    workspace = small.copied(assembled, tmp_path)
    params = small.small_params(strategy, freeze={"batch_norm": "adapt"}, tune={"epochs": 1})
    record = small.finish(workspace, params)
    assert FreezePlan.read(workspace.freeze_plan).batch_norm == "adapt"
    adapted = read_statistics(workspace.features / STATISTICS)
    trunk = small.trained(workspace).get_layer(TRUNK)
    found = current_statistics(trunk)
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
