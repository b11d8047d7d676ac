"""Exact bounds and tests of counts, and their correction where several are made at once."""

from __future__ import annotations

from collections.abc import Sequence


def lower_bound(hits: int, trials: int, risk: float) -> float:
    """The lower end of the one-sided interval of a share (Clopper and Pearson, 1934).

    Args:
        hits: How many of the trials count.
        trials: Their number; it may be 0.
        risk: How often the share may lie below the bound, as in 0.05.
    """
    from scipy.special import betaincinv

    return float(betaincinv(hits, trials - hits + 1, risk)) if hits else 0.0


def p_as_many(hits: int, trials: int, chance: float) -> float:
    """How likely so many hits, or more, are if each trial hits with this chance (binomial)."""
    # scipy.stats has a test for it, and takes a second to import.
    from scipy.special import bdtrc

    return float(bdtrc(hits - 1, trials, chance)) if hits else 1.0


def p_fallen(only_before: int, only_after: int, images: int, limit: float) -> float:
    """How likely such a loss of right answers is, if the share of them fell by ``limit`` at most.

    McNemar's (1947) exact one-sided test, moved to a limit: of the images that only one of two
    models gets right, the earlier one gets half by chance, and what the limit allows on top. With a
    limit of 0 that is the test itself. With another it takes the share of images that the two
    differ on as it was seen, so it is exact for two equally good models and close at the limit.

    Args:
        only_before: Images that only the earlier model gets right.
        only_after: Images that only the later one gets right.
        images: Of the class, or of whatever the share is of.
        limit: Of the fall, from 0 to 1.
    """
    differing = only_before + only_after
    if not differing:
        return 1.0
    return p_as_many(only_before, differing, min(1.0, (1 + limit * images / differing) / 2))


def surely(p_values: Sequence[float], level: float) -> list[bool]:
    """Which of several tests are significant together (Holm, 1979).

    Args:
        p_values: One per test.
        level: Of one false finding or more among all of them.
    """
    found = [False] * len(p_values)
    left = len(p_values)
    for place in sorted(range(len(p_values)), key=lambda one: p_values[one]):
        if p_values[place] > level / left:
            break
        found[place] = True
        left -= 1
    return found
