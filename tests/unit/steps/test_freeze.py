"""The plan is written with a table that adds up, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from graftline.core.errors import ParamsError
from graftline.core.params import LastBlocks, Params, params_from_record
from graftline.core.records import Assembled, LayerRecord
from graftline.core.workspace import Workspace
from graftline.network.freeze_plans import plan_freezing
from graftline.steps.freeze import freeze, freezing_table, head_params

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
        backbone_digest="0" * 64,
        layers=tuple(
            LayerRecord(
                name=name,
                kind=kind,
                block=block,
                params=count,
                multiply_adds=16 * count,
                output_shape=(4, 4, 8),
                clean=clean,
            )
            for name, kind, block, count, clean in LAYERS
        ),
        pooling="average",
        head_units=(16,),
        dropout=0.0,
        classes=("a", "b", "c"),
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


def test_the_table_adds_up() -> None:
    plan = plan_freezing(assembled(), LastBlocks(last_blocks=1))
    table = freezing_table(assembled(), plan)
    head = head_params(assembled(), "out_relu")
    assert head == 8 * 16 + 16 + 16 * 3 + 3
    assert "| block_2 | 3 | 4x4x8 | trainable | 0 | 130 |" in table
    assert "| stem | 2 | 4x4x8 | frozen | 108 | 0 |" in table
    total = 130 + head_params(assembled(), "out_relu")
    assert f"| **total** |  |  |  | **162** | **{total}** |" in table


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
