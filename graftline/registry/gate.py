"""The gate between challenger and champion: one check per threshold, each of which must pass.

What is not set cannot be passed, so that parameters without thresholds promote nothing.
"""

from __future__ import annotations

import math

from graftline.core.exact_tests import p_fallen, surely
from graftline.core.params import PromoteParams
from graftline.core.records import Record
from graftline.evaluation.comparison import Baseline, ClassRecall, Comparison, Paired

BASELINE = "baseline"
_MAX_CLASSES_TOLD = 5
_ROUNDING = 1e-9
"""So that 0.97 - 0.92 is no more than 0.05."""
_LEVEL = 0.05
"""Of the tests that every champion must pass, where ``promote.significance`` is not set."""


class Check(Record):
    """One threshold, and whether it is passed."""

    name: str
    """The parameter below ``promote`` that it belongs to; ``baseline`` and ``images`` have none."""
    passed: bool
    text: str
    """What was asked and what came, in words."""


def checks(
    comparison: Comparison, asked: PromoteParams, *, first: bool, same_data: bool = False
) -> tuple[Check, ...]:
    """What the gate says to a comparison; the challenger is promoted if every check passes.

    Args:
        comparison: Of the challenger with the champion, or of the challenger alone.
        asked: The thresholds.
        first: Whether there is no champion, so that only the floor and the baseline apply.
        same_data: Whether both were trained on the same images.
    """
    alone = [_floor(comparison, asked.min_accuracy)]
    if comparison.baseline is not None:
        alone.append(_baseline(comparison, comparison.baseline, asked.significance or _LEVEL))
    if first:
        return tuple(alone)
    paired = comparison.paired
    if paired is None:
        return *alone, _not_set("significance"), _classes(comparison, asked)
    if few := too_few(comparison, paired, asked):
        return *alone, Check(name="images", passed=False, text=few)
    if same_data:
        alone.append(_same_data(paired, asked.same_data_margin))
    return *alone, *against(paired, asked, "the champion"), _classes(comparison, asked)


def against(paired: Paired, asked: PromoteParams, whom: str) -> tuple[Check, Check]:
    """What the gate says to the challenger beside one version.

    Args:
        paired: The two on the same images.
        asked: The thresholds.
        whom: That version in words.
    """
    return (
        _margin(paired, asked.margin, whom),
        _test(paired, asked.significance, asked.margin, whom),
    )


def too_few(comparison: Comparison, paired: Paired, asked: PromoteParams) -> str | None:
    """Why the images that are left cannot decide, in words; None if they can, or none was left out.

    Even without a single difference between the two, some images are needed to be as sure as the
    significance asks that the accuracy is not below the margin.

    Args:
        comparison: Of the challenger with the champion.
        paired: The two on the images that are left.
        asked: The thresholds.
    """
    left = comparison.images if paired.images is None else paired.images
    if left == comparison.images or asked.significance is None or asked.margin is None:
        return None
    chance = 1 + asked.margin if asked.margin < 0 else 0.5
    needed = math.ceil(math.log(asked.significance) / math.log(chance) - _ROUNDING)
    told = f"only {left:,} of {comparison.images:,} test images are left"
    if left < needed:
        return (
            f"{told} that neither was trained on, and a margin of {points(asked.margin)} at a "
            f"significance of {asked.significance:g} needs {needed:,}"
        )
    if comparison.missing and (asked.max_recall_drop or 0) < 1:
        return f"{told} that neither was trained on, and none of {_listed(comparison.missing)}"
    return None


def _floor(comparison: Comparison, floor: float | None) -> Check:
    if floor is None:
        return _not_set("min_accuracy")
    accuracy, balanced = comparison.challenger_accuracy, comparison.challenger_balanced_accuracy
    told = f"accuracy {accuracy:.2%}"
    # Of classes of the same size the two are the same.
    if balanced is not None and not math.isclose(balanced, accuracy, abs_tol=_ROUNDING):
        told += f" ({balanced:.2%} with each class counting the same)"
        accuracy = min(accuracy, balanced)
    passed = accuracy >= floor - _ROUNDING
    relation = "reaches" if passed else "is below"
    return Check(
        name="min_accuracy", passed=passed, text=f"{told} {relation} the floor of {floor:.2%}"
    )


def _baseline(comparison: Comparison, baseline: Baseline, level: float) -> Check:
    passed = baseline.p_better <= level
    always = f"always naming {baseline.name} ({baseline.accuracy:.2%})"
    needed = math.ceil(-math.log2(level) - _ROUNDING)
    if passed:
        text = f"it is surely better than {always}: McNemar's exact p {baseline.p_better:.3g}"
    elif baseline.others < needed:
        text = (
            f"too few images: {baseline.others} of the {comparison.images:,} test images are of "
            f"another class than {baseline.name}, and to be surely better than always naming it "
            f"takes {needed}"
        )
    else:
        text = (
            f"it is not surely better than {always}: McNemar's exact p {baseline.p_better:.3g}, "
            f"level {level:g}"
        )
    return Check(name=BASELINE, passed=passed, text=text)


def _same_data(paired: Paired, margin: float) -> Check:
    passed = paired.difference >= margin - _ROUNDING
    challenger = paired.champion_accuracy + paired.difference
    return Check(
        name="same_data_margin",
        passed=passed,
        text=f"both were trained on the same data, so that the challenger must "
        f"{'not be worse' if not margin else f'be at {points(margin)} at least'}: "
        f"{challenger:.2%} against {paired.champion_accuracy:.2%}",
    )


def _margin(paired: Paired, margin: float | None, whom: str) -> Check:
    if margin is None:
        return _not_set("margin")
    passed = paired.difference_low >= margin - _ROUNDING
    return Check(
        name="margin",
        passed=passed,
        text=f"the difference to {whom} is {points(paired.difference)} "
        f"({paired.confidence:.0%} interval {points(paired.difference_low)} to "
        f"{points(paired.difference_high)}), and its lower end is "
        f"{'not ' if passed else ''}below the margin of {points(margin)}",
    )


def _test(paired: Paired, significance: float | None, margin: float | None, whom: str) -> Check:
    if significance is None:
        return _not_set("significance")
    counts = (
        f"{paired.only_challenger_right} images only the challenger gets right, "
        f"{paired.only_champion_right} only {whom}"
    )
    if margin is not None and margin >= 0:
        passed = paired.p_better <= significance
        says = "significantly better" if passed else "not significantly better"
        return _tested(passed, says, paired.p_better, significance, counts)
    passed = paired.p_worse > significance
    says = "not significantly worse" if passed else "significantly worse"
    return _tested(passed, says, paired.p_worse, significance, counts)


def _tested(passed: bool, says: str, p: float, significance: float, counts: str) -> Check:
    return Check(
        name="significance",
        passed=passed,
        text=f"the challenger is {says} (McNemar's exact p {p:.3g}, level {significance:g}; "
        f"{counts})",
    )


def _classes(comparison: Comparison, asked: PromoteParams) -> Check:
    limit = asked.max_recall_drop
    if limit is None:
        return _not_set("max_recall_drop")
    guarded = {
        name: one
        for name, one in comparison.classes.items()
        if one.images >= asked.min_class_images
    }
    left_out = len(comparison.classes) - len(guarded)
    aside = f"; {left_out} classes of fewer than {asked.min_class_images} images are not guarded"
    level = asked.significance or _LEVEL
    sure = surely([_p_fallen(one, limit) for one in guarded.values()], level)
    fallen = sorted(
        (name for name, fell in zip(guarded, sure, strict=True) if fell),
        key=lambda name: -guarded[name].drop,
    )
    if fallen:
        told = _listed(
            [
                f"{name} from {guarded[name].champion or 0:.2%} to {guarded[name].challenger:.2%}"
                for name in fallen
            ]
        )
        text = f"the recall of a class surely falls by more than {points(limit)[1:]}: {told}"
    else:
        text = (
            f"the recall of none of {len(guarded)} classes surely falls by more than "
            f"{points(limit)[1:]}"
        )
    text += f" (exact tests, level {level:g} for all classes together)"
    return Check(name="max_recall_drop", passed=not fallen, text=text + (aside if left_out else ""))


def _p_fallen(one: ClassRecall, limit: float) -> float:
    before, after = one.only_champion_right or 0, one.only_challenger_right or 0
    return p_fallen(before, after, one.images, limit)


def _listed(names: list[str] | tuple[str, ...]) -> str:
    more = len(names) - _MAX_CLASSES_TOLD
    return ", ".join(names[:_MAX_CLASSES_TOLD]) + (f" and {more} more" if more > 0 else "")


def _not_set(name: str) -> Check:
    return Check(name=name, passed=False, text=f"promote.{name} is not set, so nothing is promoted")


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{share * 100:+.2f} points"
