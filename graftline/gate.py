"""The gate between challenger and champion: one check per threshold, each of which must pass.

What is not set cannot be passed, so that parameters without thresholds promote nothing.
"""

from __future__ import annotations

from graftline.artifacts import Record
from graftline.comparison import Comparison, Paired
from graftline.params import PromoteParams

_MAX_CLASSES_TOLD = 5
_ROUNDING = 1e-9
"""So that 0.97 - 0.92 is no more than 0.05."""


class Check(Record):
    """One threshold, and whether it is passed."""

    name: str
    """The parameter below ``promote`` that it belongs to."""
    passed: bool
    text: str
    """What was asked and what came, in words."""


def checks(comparison: Comparison, asked: PromoteParams, *, first: bool) -> tuple[Check, ...]:
    """What the gate says to a comparison; the challenger is promoted if every check passes.

    Args:
        comparison: Of the challenger with the champion, or of the challenger alone.
        asked: The thresholds.
        first: Whether there is no champion, so that only the floor applies.
    """
    floor = _floor(comparison, asked.min_accuracy)
    if first:
        return (floor,)
    if comparison.paired is None:
        return floor, _not_set("significance"), _classes(comparison, asked)
    paired = comparison.paired
    return (
        floor,
        _margin(paired, asked.margin),
        _test(paired, asked.significance, asked.margin),
        _classes(comparison, asked),
    )


def _floor(comparison: Comparison, floor: float | None) -> Check:
    if floor is None:
        return _not_set("min_accuracy")
    accuracy = comparison.challenger_accuracy
    passed = accuracy >= floor
    relation = "reaches" if passed else "is below"
    return Check(
        name="min_accuracy",
        passed=passed,
        text=f"accuracy {accuracy:.2%} {relation} the floor of {floor:.2%}",
    )


def _margin(paired: Paired, margin: float | None) -> Check:
    if margin is None:
        return _not_set("margin")
    passed = paired.difference_low >= margin - _ROUNDING
    return Check(
        name="margin",
        passed=passed,
        text=f"the difference to the champion is {points(paired.difference)} "
        f"({paired.confidence:.0%} interval {points(paired.difference_low)} to "
        f"{points(paired.difference_high)}), and its lower end is "
        f"{'not ' if passed else ''}below the margin of {points(margin)}",
    )


def _test(paired: Paired, significance: float | None, margin: float | None) -> Check:
    if significance is None:
        return _not_set("significance")
    counts = (
        f"{paired.only_challenger_right} images only the challenger gets right, "
        f"{paired.only_champion_right} only the champion"
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
    fallen = sorted(
        (name for name, one in guarded.items() if one.drop > limit + _ROUNDING),
        key=lambda name: -guarded[name].drop,
    )
    if fallen:
        told = ", ".join(
            f"{name} from {guarded[name].champion or 0:.2%} to {guarded[name].challenger:.2%}"
            for name in fallen[:_MAX_CLASSES_TOLD]
        )
        more = f" and {len(fallen) - _MAX_CLASSES_TOLD} more" * (len(fallen) > _MAX_CLASSES_TOLD)
        text = f"the recall of a class falls by more than {points(limit)[1:]}: {told}{more}"
    else:
        text = (
            f"the recall of none of {len(guarded)} classes falls by more than {points(limit)[1:]}"
        )
    return Check(name="max_recall_drop", passed=not fallen, text=text + (aside if left_out else ""))


def _not_set(name: str) -> Check:
    return Check(name=name, passed=False, text=f"promote.{name} is not set, so nothing is promoted")


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{share * 100:+.2f} points"
