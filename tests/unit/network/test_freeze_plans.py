"""The plan is a pure function of the backbone, its cut and the strategy."""

from __future__ import annotations

import pytest

from graftline.core.errors import ParamsError
from graftline.core.records import FreezePlan
from graftline.core.stages import POOLED
from graftline.network.freeze_plans import blocks_of, plan_freezing
from tests.unit.steps.test_freeze import assembled, params


def planned(strategy: object, cut: str | None = None) -> FreezePlan:
    named = params(strategy).freeze.strategy
    assert named != "auto"
    return plan_freezing(assembled(), named, cut=cut)


@pytest.mark.parametrize(
    ("strategy", "boundary", "trainable"),
    [
        ("all", POOLED, ()),
        ("none", None, ("Conv1", "block_1_expand", "block_2_expand", "block_2_project")),
        ({"last_blocks": 1}, "block_1_add", ("block_2_expand", "block_2_project")),
        ("last_blocks: 2", "bn_Conv1", ("block_1_expand", "block_2_expand", "block_2_project")),
        ({"first_blocks": 1}, None, ("Conv1",)),
        ({"first_blocks": 2}, None, ("Conv1", "block_1_expand")),
        ({"from_layer": "block_2_project"}, "block_1_add", ("block_2_project",)),
        ({"from_layer": "block_1_add"}, "block_1_add", ("block_2_expand", "block_2_project")),
    ],
)
def test_each_strategy_thaws_what_it_names(
    strategy: object, boundary: str | None, trainable: tuple[str, ...]
) -> None:
    plan = planned(strategy)
    assert plan.boundary == boundary
    assert plan.trainable == trainable


def test_batch_normalization_never_trains() -> None:
    plan = planned("none")
    kinds = {layer.name: layer.kind for layer in assembled().layers}
    assert "BatchNormalization" not in {kinds[name] for name in plan.trainable}


def test_too_many_blocks_are_refused_with_their_number() -> None:
    with pytest.raises(ParamsError, match="got 4, and the backbone has 3 blocks") as caught:
        planned({"last_blocks": 4})
    assert caught.value.allowed == "1 to 3"
    assert caught.value.exit_code == 2


def test_an_unknown_layer_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(ParamsError, match=r"freeze.strategy.from_layer.*block_2_projekt") as caught:
        planned({"from_layer": "block_2_projekt"})
    assert "block_2_project" in str(caught.value.allowed)


def test_a_cut_of_ones_own_ends_the_backbone() -> None:
    plan = planned({"last_blocks": 1}, cut="block_1_add")
    assert (plan.cut, plan.boundary, plan.trainable) == (
        "block_1_add",
        "bn_Conv1",
        ("block_1_expand",),
    )
    assert planned("none", cut="block_1_add").trainable == ("Conv1", "block_1_expand")


def test_blocks_without_weights_to_train_are_none() -> None:
    assert blocks_of(assembled().layers) == ["stem", "block_1", "block_2"]
