"""Frozen means frozen: every variable of the backbone is compared before and after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graftline.core.records import FreezePlan, Trained
from graftline.core.workspace import Workspace
from graftline.network.classifier import BACKBONE, HEAD
from graftline.network.keras_io import variables_digest
from graftline.network.unfreezing import thaw
from graftline.steps.freeze import freeze
from tests.model import small


def _values(model: Any) -> dict[str, np.ndarray]:
    return {
        f"{layer.name}/{index}": value
        for layer in model.get_layer(BACKBONE).layers
        for index, value in enumerate(layer.get_weights())
    }


@pytest.mark.parametrize("fixture", ["head_only", "last_block"])
def test_what_is_frozen_does_not_move_and_what_trains_does(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    workspace: Workspace = request.getfixturevalue(fixture)
    plan = FreezePlan.read(workspace.freeze_plan)
    before, after = _values(small.untrained(workspace)), _values(small.trained(workspace))
    assert before.keys() == after.keys()
    moved = {
        name.rpartition("/")[0] for name in before if not np.array_equal(before[name], after[name])
    }
    assert moved == set(plan.trainable)
    assert bool(moved) == (fixture == "last_block")
    statistics = [name for name in before if "BN" in name or "bn" in name]
    assert len(statistics) >= 4 * 5, "the backbone has BatchNormalization layers to compare"


@pytest.mark.parametrize("fixture", ["head_only", "last_block"])
def test_the_recorded_digests_are_those_of_the_files(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    workspace: Workspace = request.getfixturevalue(fixture)
    plan = FreezePlan.read(workspace.freeze_plan)
    record = Trained.read(workspace.trained / "trained.json")
    assert record.frozen_digest_before == record.frozen_digest_after
    exported = small.trained(workspace)
    assert record.weight_digest == variables_digest(exported.variables)
    assert record.frozen_digest_before == variables_digest(thaw(small.untrained(workspace), plan))
    assert record.frozen_digest_after == variables_digest(thaw(exported, plan))
    assert variables_digest(small.untrained(workspace).variables) != record.weight_digest


def test_a_changed_statistic_changes_the_digest(head_only: Workspace) -> None:
    plan = FreezePlan.read(head_only.freeze_plan)
    model = small.trained(head_only)
    frozen = thaw(model, plan)
    before = variables_digest(frozen)
    statistic = next(variable for variable in frozen if "moving_variance" in variable.path)
    statistic.assign(statistic.numpy() * (1 + 1e-6))
    assert variables_digest(frozen) != before


@pytest.mark.parametrize(
    "strategy", ["all", "none", {"last_blocks": 2}, {"first_blocks": 1}, {"from_layer": "Conv1"}]
)
def test_no_strategy_thaws_batch_normalization(
    strategy: Any, assembled: Workspace, tmp_path: Path
) -> None:
    workspace = small.copied(assembled, tmp_path)
    plan = freeze(workspace, small.small_params(strategy))
    model = small.untrained(workspace)
    frozen = {variable.path for variable in thaw(model, plan)}
    backbone = model.get_layer(BACKBONE)
    for layer in backbone.layers:
        for variable in layer.variables:
            kept = type(layer).__name__ == "BatchNormalization" or layer.name not in plan.trainable
            assert (variable.path in frozen) == kept, variable.path
    trainable = {variable.path for variable in model.trainable_variables}
    assert not frozen & trainable
    head = {variable.path for variable in model.get_layer(HEAD).trainable_variables}
    assert head and head <= trainable
