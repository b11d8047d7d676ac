from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from graftline.core.exact_tests import lower_bound, p_fallen, surely


def test_the_bound_is_clopper_and_pearsons() -> None:
    # One of five, one-sided 95 %: the p at which one or more of five has a chance of 5 %.
    low = lower_bound(1, 5, 0.05)
    assert 1 - (1 - low) ** 5 == pytest.approx(0.05)
    assert lower_bound(0, 5, 0.05) == 0.0
    assert lower_bound(0, 0, 0.05) == 0.0


def test_without_a_limit_it_is_mcnemars() -> None:
    # 8 of the 128 ways in which 7 coins fall show 6 heads or more.
    assert p_fallen(6, 1, 100, 0.0) == pytest.approx(8 / 128)
    assert p_fallen(0, 0, 100, 0.0) == 1.0


def test_a_limit_is_allowed_for() -> None:
    # 20 images, all of which only the earlier one gets right: (1.05 / 2) to the power of 20.
    assert p_fallen(20, 0, 20, 0.05) == pytest.approx(0.525**20)
    # Where all that differ may fall, nothing is sure.
    assert p_fallen(5, 0, 100, 0.05) == 1.0
    assert p_fallen(50, 0, 100, 1.0) == 1.0


@pytest.mark.parametrize("images", [20, 100])
@pytest.mark.parametrize("gained", [0.0, 0.02, 0.1, 0.3])
def test_a_share_that_fell_by_just_the_limit_is_seldom_found_to_have_fallen_by_more(
    images: int, gained: float
) -> None:
    limit, level = 0.05, 0.05
    lost = gained + limit
    chance = 0.0
    for before in range(images + 1):
        for after in range(images + 1 - before):
            if p_fallen(before, after, images, limit) <= level:
                differing = before + after
                chance += binom.pmf(differing, images, lost + gained) * binom.pmf(
                    before, differing, lost / (lost + gained)
                )
    assert chance <= 1.1 * level


def test_holms_steps() -> None:
    # 0.01 <= 0.05/4, 0.013 <= 0.05/3, 0.03 > 0.05/2.
    assert surely([0.03, 0.01, 0.2, 0.013], 0.05) == [False, True, False, True]
    assert surely([], 0.05) == []
    assert surely([0.06], 0.05) == [False]


def test_of_true_ones_hardly_any_is_found() -> None:
    draw = np.random.default_rng(0)
    found = sum(any(surely(draw.random(30).tolist(), 0.05)) for _ in range(1000))
    assert found < 70
