"""A promotion's receipt as people read it, and as MLflow charts it."""

from __future__ import annotations

from collections.abc import Iterator

from graftline.core.markdown import MOST_CLASSES, SHOWN_CLASSES, table
from graftline.evaluation.comparison import Comparison
from graftline.registry.gate import points
from graftline.registry.promotions import BestChampion, Promotion
from graftline.registry.rivals import LeftOut


def markdown(promotion: Promotion) -> str:
    """The receipt as Markdown: the verdict, each check, each class, and who decided when."""
    lines = [f"# {_title(promotion)}", "", f"{promotion.reason[:1].upper()}{promotion.reason[1:]}."]
    if promotion.checks:
        found = (
            (check.name, "passed" if check.passed else "not passed", check.text)
            for check in promotion.checks
        )
        lines += ["", table(("check", "", ""), found, "lll")]
    if (one := promotion.comparison) is not None:
        lines += ["", f"On {one.images:,} test images:", ""]
        lines.append(table(("", "challenger", "champion"), _compared(one)))
    lines += ["", table(("", ""), _facts(promotion), "ll"), ""]
    return "\n".join(lines)


def metrics(promotion: Promotion) -> dict[str, float]:
    """The figures of a decision by name, for a run."""
    comparison = promotion.comparison
    values: dict[str, float] = {"promoted": float(promotion.promoted)}
    if comparison is not None:
        values["challenger_accuracy"] = comparison.challenger_accuracy
        if comparison.challenger_balanced_accuracy is not None:
            values["challenger_balanced_accuracy"] = comparison.challenger_balanced_accuracy
        if comparison.paired is not None:
            values |= comparison.paired.model_dump(exclude_none=True)
    return {f"promotion/{name}": float(value) for name, value in values.items()}


def line(promotion: Promotion) -> str:
    """The verdict in one line."""
    version, champion = promotion.challenger_version, promotion.champion_version
    if promotion.decision == "unchanged":
        return promotion.reason
    if promotion.promoted:
        over = f"over version {champion}" if champion else "as the first champion"
        return f"version {version} was promoted {over}: {_figures(promotion)}"
    stays = f"version {champion} stays the champion" if champion else "there is no champion yet"
    return f"version {version} was not promoted, {stays}: {promotion.reason}"


def _figures(promotion: Promotion) -> str:
    """What a line has room for; without a paired comparison, the reason."""
    comparison = promotion.comparison
    if comparison is None or comparison.paired is None:
        return promotion.reason
    paired = comparison.paired
    challenger = paired.champion_accuracy + paired.difference
    return (
        f"{challenger:.2%} against {paired.champion_accuracy:.2%} of the same "
        f"{paired.images or comparison.images:,} images, {points(paired.difference)} "
        f"({points(paired.difference_low)} to {points(paired.difference_high)})"
    )


def _title(promotion: Promotion) -> str:
    name, version = promotion.model_name, promotion.challenger_version
    if promotion.decision == "unchanged":
        return f"{name} version {version} is the champion"
    if promotion.promoted:
        return f"{name} version {version} is the new champion"
    return f"{name} version {version} was not promoted"


def _compared(comparison: Comparison) -> Iterator[tuple[str, str, str]]:
    paired = comparison.paired
    left = paired.images if paired and paired.images else comparison.images
    before = f"{paired.champion_accuracy:.2%}" if paired and left == comparison.images else ""
    yield "accuracy", f"{comparison.challenger_accuracy:.2%}", before
    if (balanced := comparison.challenger_balanced_accuracy) is not None:
        yield "each class counting the same", f"{balanced:.2%}", ""
    if (always := comparison.baseline) is not None:
        yield f"always naming {always.name}", f"{always.accuracy:.2%}", ""
    if paired and left != comparison.images:
        challenger = paired.champion_accuracy + paired.difference
        told = f"accuracy on the {left:,} that neither was trained on"
        yield told, f"{challenger:.2%}", f"{paired.champion_accuracy:.2%}"
    if paired:
        only = (paired.only_challenger_right, paired.only_champion_right)
        yield "right where the other is wrong", f"{only[0]:,}", f"{only[1]:,}"
        chances = (f"{paired.p_better:.3g}", f"{paired.p_worse:.3g}")
        yield "McNemar's exact p of such a lead", *chances
    classes = list(comparison.classes.items())
    more = len(classes) - SHOWN_CLASSES if len(classes) > MOST_CLASSES else 0
    if more:
        # Those that fell the most; without a champion, those that are named worst.
        classes.sort(key=lambda named: (-named[1].drop, named[1].challenger))
        classes = classes[:SHOWN_CLASSES]
    for name, one in classes:
        before = "" if one.champion is None else f"{one.champion:.2%}"
        yield f"recall of {name} ({one.images:,})", f"{one.challenger:.2%}", before
    if more:
        yield f"recall of {more:,} more classes: in the receipt", "", ""


def _facts(promotion: Promotion) -> Iterator[tuple[str, str]]:
    yield "when", promotion.when
    yield "who", promotion.who
    yield "command", f"`{promotion.command}`"
    yield "run", f"`{promotion.run_id}`"
    yield "challenger", _version(promotion.challenger_version, promotion.challenger_digest)
    if promotion.champion_version:
        yield "champion before", _version(promotion.champion_version, promotion.champion_digest)
    if promotion.champion_answers:
        yield "champion's answers", promotion.champion_answers
    if promotion.rule:
        yield "rule", _rule(promotion)
    if promotion.trained_on:
        yield (
            "the challenger's training images",
            f"{promotion.trained_on:,} test images are among them, and count for nothing",
        )
    if promotion.left_out is not None and (told := _left_out(promotion.left_out)):
        yield "the champion's training images", told
    if promotion.best is not None:
        yield from _best(promotion.best)
    if promotion.best_version:
        yield "the best from now on", f"version {promotion.best_version}"
    if promotion.test_digest:
        yield "test split", f"`{promotion.test_digest[:16]}`"
    for name, value in promotion.thresholds.model_dump().items():
        yield f"promote.{name}", "null" if value is None else f"{value:g}"


def _rule(promotion: Promotion) -> str:
    if promotion.rule == "first":
        return "first: there is no champion, so the floor and the baseline decide"
    best = promotion.best
    beside = f"; and to version {best.version}, the best one so far" if best and best.paired else ""
    if promotion.rule == "same data":
        return (
            "same data: the champion was trained on them too, so the challenger must not be worse "
            f"as measured; and the margin to it{beside}"
        )
    return f"new data: the margin to the champion{beside}"


def _left_out(left_out: LeftOut) -> str:
    if left_out.because == "not known":
        return "not known, so that no test image is left out; those among them favour it"
    if not left_out.images:
        return ""
    if left_out.because == "trained on":
        return f"{left_out.images:,} test images are among them, and are left out between the two"
    return (
        f"not known; {left_out.images:,} test images were not in its own test split, may be among "
        "them, and are left out between the two"
    )


def _best(best: BestChampion) -> Iterator[tuple[str, str]]:
    title = "the best one so far"
    if best.paired is None:
        yield title, f"version {best.version}, not compared with: {best.set_aside}"
        return
    paired = best.paired
    left = _left_out(best.left_out) if best.left_out else ""
    yield (
        title,
        f"version {best.version}: {paired.champion_accuracy:.2%} of the same {paired.images:,} "
        f"images, the challenger {points(paired.difference)} ({points(paired.difference_low)} to "
        f"{points(paired.difference_high)}); answers {best.answers}"
        + (f"; its training images: {left}" if left else ""),
    )


def _version(version: str, digest: str | None) -> str:
    return f"version {version}, weights `{(digest or 'unknown')[:16]}`"
