"""The runners that are compared give the same features, and absent ones are told of."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import runners
from benchmarks.backbones import Backbone, build_backbone, random_images
from benchmarks.runners import Absent, Runner, fastest
from graftline.network.cutting import build_base


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return build_backbone(32, 0.35, "block_3_expand_relu", tmp_path_factory.mktemp("backbone"))


@pytest.mark.slow
def test_all_that_are_installed_agree_and_the_others_are_absent(backbone: Backbone) -> None:
    images = random_images(37)  # no multiple of any batch
    present, absent = runners.runners(backbone, images[:8])
    assert {one.name for one in (*present, *absent)} == set(runners._BUILDERS)
    assert {runners.GRAFTLINE, runners.KERAS, "LiteRT by hand"} <= {one.name for one in present}
    reference = present[0].run(images)
    for one in present[1:]:
        np.testing.assert_allclose(one.run(images), reference, atol=1e-4, err_msg=one.name)


def test_what_is_not_installed_is_absent(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: Backbone) -> dict[str, runners.Run]:
        raise ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere")

    monkeypatch.setattr(runners, "_BUILDERS", {"Elsewhere": missing})
    present, absent = runners.runners(backbone, random_images(1))
    assert (present, absent) == ([], [Absent("Elsewhere", "not installed (elsewhere)")])


def test_the_fastest_setting_is_taken() -> None:
    def slow(images: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return images

    quick = Runner("it", "quick", lambda images: images)
    assert fastest([Runner("it", "slow", slow), quick], random_images(1)) is quick


def test_multiply_adds_are_those_of_the_paper(tmp_path: Path) -> None:
    # Sandler et al. 2018 give 300 million for alpha 1.0 at 224 px, 1.28 million of them the top.
    network = Backbone(224, tmp_path, build_base(224, 1.0, seed=0), tmp_path)
    assert network.multiply_adds == pytest.approx(300e6 - 1.28e6, rel=0.01)
