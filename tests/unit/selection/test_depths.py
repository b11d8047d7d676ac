"""Depths are where features differ in kind, never where a shortcut passes by."""

from __future__ import annotations

import pytest

from graftline.core.records import Assembled, LayerRecord
from graftline.selection.depths import FEWEST, MOST, choose_depths
from tests.unit.selection.rivals import mobile_net


@pytest.fixture(scope="module")
def assembled() -> Assembled:
    return mobile_net(alpha=1.0)


def test_mobile_net_is_looked_at_where_its_features_differ(assembled: Assembled) -> None:
    assert [depth.layer for depth in choose_depths(assembled)] == [
        "block_2_add",
        "block_3_expand_relu",
        "block_5_add",
        "block_6_expand_relu",
        "block_9_add",
        "block_12_add",
        "block_13_expand_relu",
        "block_15_add",
        "block_16_project_BN",
        "out_relu",
    ]


def test_a_depth_costs_all_layers_up_to_it(assembled: Assembled) -> None:
    depths = choose_depths(assembled)
    costs = [depth.multiply_adds for depth in depths]
    assert costs == sorted(costs)
    assert costs[-1] == sum(layer.multiply_adds for layer in assembled.layers)


def test_the_cut_of_the_parameters_is_among_them(assembled: Assembled) -> None:
    early = assembled.model_copy(update={"cut": "block_1_project_BN"})
    depths = choose_depths(early)
    assert "block_1_project_BN" in [depth.layer for depth in depths]
    assert depths[-1].layer == "out_relu"
    assert len(depths) == MOST


def chain(shapes: list[tuple[int, int]], clean: list[bool] | None = None) -> Assembled:
    """A backbone of blocks of one layer each, by side and channels."""
    flags = clean or [True] * len(shapes)
    layers = tuple(
        LayerRecord(
            name=f"layer_{at}",
            kind="Conv2D",
            block=f"block_{at}",
            params=10,
            multiply_adds=100,
            output_shape=(side, side, channels),
            clean=flag,
        )
        for at, ((side, channels), flag) in enumerate(zip(shapes, flags, strict=True))
    )
    return mobile_net(32).model_copy(update={"layers": layers, "cut": layers[-1].name})


def test_another_family_with_few_stages_gets_more_block_ends() -> None:
    backbone = chain([(16, 8)] * 6 + [(8, 16)] * 6)
    layers = [depth.layer for depth in choose_depths(backbone)]
    assert len(layers) == FEWEST
    assert {"layer_5", "layer_11"} <= set(layers)


def test_no_layer_that_a_shortcut_passes_by_is_a_depth() -> None:
    backbone = chain(
        [(16, 8), (16, 16), (8, 16), (8, 32), (4, 64)], [True, False, True, False, True]
    )
    assert [depth.layer for depth in choose_depths(backbone)] == ["layer_0", "layer_2", "layer_4"]
