from __future__ import annotations

import pytest

from graftline.core.backbone_cuts import check_cut, cuts_of
from graftline.core.backbones import DEFAULT, DEFAULT_CUT, FAMILIES
from graftline.core.errors import ParamsError
from graftline.core.params import BackboneParams


def backbone(name: str = DEFAULT, cut: str | None = None) -> BackboneParams:
    return BackboneParams(name=name, weights="random", cut=cut)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_backbone_can_be_cut_after_its_usual_layer(name: str) -> None:
    assert FAMILIES[name].last_layer in cuts_of(name)
    check_cut(backbone(name))
    check_cut(backbone(name, FAMILIES[name].last_layer))


def test_what_another_backbone_is_cut_after_is_refused_with_what_to_do() -> None:
    check_cut(backbone(DEFAULT, DEFAULT_CUT))
    with pytest.raises(ParamsError) as caught:
        check_cut(backbone("EfficientNetV2B0", DEFAULT_CUT))
    said = str(caught.value)
    assert f"EfficientNetV2B0 cannot be cut after '{DEFAULT_CUT}': it is one of {DEFAULT}" in said
    assert "or null" in said
    assert "set backbone.cut: null, which cuts after its usual last layer, top_activation" in said


def test_the_nearest_are_named() -> None:
    with pytest.raises(ParamsError, match=f"allowed: .*{DEFAULT_CUT}"):
        check_cut(backbone(DEFAULT, "block_13_expand_rely"))
