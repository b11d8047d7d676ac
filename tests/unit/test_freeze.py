"""The plan is a pure function of the trunk and the strategy."""

from __future__ import annotations

from pathlib import Path

import pytest

from graftline.artifacts import Assembled, LayerRecord
from graftline.errors import ParamsError
from graftline.freeze import POOLED, freeze, freezing_table, head_params, plan_freezing
from graftline.params import Params, params_from_record
from graftline.workspace import Workspace

LAYERS = (
    ("Conv1", "Conv2D", "stem", 100, True),
    ("bn_Conv1", "BatchNormalization", "stem", 8, True),
    ("block_1_expand", "Conv2D", "block_1", 50, False),
    ("block_1_expand_BN", "BatchNormalization", "block_1", 4, False),
    ("block_1_add", "Add", "block_1", 0, True),
    ("block_2_expand", "Conv2D", "block_2", 60, False),
    ("block_2_project", "Conv2D", "block_2", 70, False),
    ("block_2_add", "Add", "block_2", 0, True),
    ("out_relu", "ReLU", "top", 0, True),
)


def assembled() -> Assembled:
    return Assembled(
        backbone="MobileNetV2",
        alpha=1.0,
        size_px=32,
        cut="out_relu",
        weights="random",
        weights_sha256=None,
        trunk_digest="0" * 64,
        layers=tuple(
            LayerRecord(
                name=name, kind=kind, block=block, params=count, output_shape=(4, 4, 8), clean=clean
            )
            for name, kind, block, count, clean in LAYERS
        ),
        pooling="average",
        head_units=(16,),
        dropout=0.0,
        classes=("a", "b", "c"),
        feature_dim=8,
    )


def params(strategy: object) -> Params:
    return params_from_record(
        {
            "data": {"source": "mnist-5k"},
            "backbone": {"weights": "random"},
            "freeze": {"strategy": strategy},
        },
        "test",
    )


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
    plan = plan_freezing(assembled(), params(strategy))
    assert plan.boundary == boundary
    assert plan.trainable == trainable


def test_batch_normalization_never_trains() -> None:
    plan = plan_freezing(assembled(), params("none"))
    kinds = {layer.name: layer.kind for layer in assembled().layers}
    assert "BatchNormalization" not in {kinds[name] for name in plan.trainable}


def test_too_many_blocks_are_refused_with_their_number() -> None:
    with pytest.raises(ParamsError, match="got 4, and the trunk has 3 blocks") as caught:
        plan_freezing(assembled(), params({"last_blocks": 4}))
    assert caught.value.allowed == "1 to 3"
    assert caught.value.exit_code == 2


def test_an_unknown_layer_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(ParamsError, match=r"freeze.strategy.from_layer.*block_2_projekt") as caught:
        plan_freezing(assembled(), params({"from_layer": "block_2_projekt"}))
    assert "block_2_project" in str(caught.value.allowed)


def test_the_table_adds_up() -> None:
    plan = plan_freezing(assembled(), params({"last_blocks": 1}))
    table = freezing_table(assembled(), plan)
    assert head_params(assembled()) == 8 * 16 + 16 + 16 * 3 + 3
    assert "| block_2 | 3 | 4x4x8 | trainable | 0 | 130 |" in table
    assert "| stem | 2 | 4x4x8 | frozen | 108 | 0 |" in table
    assert f"| **total** | | | | **162** | **{130 + head_params(assembled())}** |" in table


def test_a_refused_strategy_leaves_the_earlier_plan(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.assembled.mkdir(parents=True)
    assembled().write(workspace.assembled / "assembled.json")
    freeze(workspace, params("all"))
    before = workspace.freeze_plan.read_bytes(), list(workspace.freezing_report.iterdir())
    with pytest.raises(ParamsError):
        freeze(workspace, params({"from_layer": "nothing"}))
    assert (workspace.freeze_plan.read_bytes(), list(workspace.freezing_report.iterdir())) == before


def test_every_layer_stands_in_the_report(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.assembled.mkdir(parents=True)
    assembled().write(workspace.assembled / "assembled.json")
    freeze(workspace, params({"last_blocks": 1}))
    rows = (workspace.freezing_report / "layers.csv").read_text().splitlines()
    assert len(rows) == 1 + len(LAYERS)
    assert "block_2_expand,Conv2D,block_2,4x4x8,60,trainable" in rows
    assert "bn_Conv1,BatchNormalization,stem,4x4x8,8,frozen" in rows
