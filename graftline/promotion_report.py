"""A promotion's receipt as people read it, and as MLflow charts it."""

from __future__ import annotations

from collections.abc import Iterator

from graftline.comparison import Comparison
from graftline.gate import points
from graftline.promote import Promotion


def markdown(promotion: Promotion) -> str:
    """The receipt as Markdown: the verdict, each check, each class, and who decided when."""
    lines = [f"# {_title(promotion)}", "", f"{promotion.reason[:1].upper()}{promotion.reason[1:]}."]
    if promotion.checks:
        lines += ["", "| check | | |", "| --- | --- | --- |"]
        lines += [
            f"| {check.name} | {'passed' if check.passed else 'not passed'} | {check.text} |"
            for check in promotion.checks
        ]
    if promotion.comparison:
        lines += ["", *_comparison(promotion.comparison)]
    lines += ["", "| | |", "| --- | --- |"]
    lines += [f"| {title} | {text} |" for title, text in _facts(promotion)]
    return "\n".join(lines) + "\n"


def metrics(promotion: Promotion) -> dict[str, float]:
    """The figures of a decision by name, for a run."""
    comparison = promotion.comparison
    values: dict[str, float] = {"promoted": float(promotion.promoted)}
    if comparison is not None:
        values["challenger_accuracy"] = comparison.challenger_accuracy
        if comparison.paired is not None:
            values |= comparison.paired.model_dump()
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
    return (
        f"{comparison.challenger_accuracy:.2%} against {paired.champion_accuracy:.2%} of the same "
        f"{comparison.images:,} images, {points(paired.difference)} "
        f"({points(paired.difference_low)} to {points(paired.difference_high)})"
    )


def _title(promotion: Promotion) -> str:
    name, version = promotion.model_name, promotion.challenger_version
    if promotion.decision == "unchanged":
        return f"{name} version {version} is the champion"
    if promotion.promoted:
        return f"{name} version {version} is the new champion"
    return f"{name} version {version} was not promoted"


def _comparison(comparison: Comparison) -> Iterator[str]:
    paired = comparison.paired
    yield f"On {comparison.images:,} test images:"
    yield ""
    yield "| | challenger | champion |"
    yield "| --- | --: | --: |"
    champion = f"{paired.champion_accuracy:.2%}" if paired else ""
    yield f"| accuracy | {comparison.challenger_accuracy:.2%} | {champion} |"
    if paired:
        yield (
            f"| right where the other is wrong | {paired.only_challenger_right:,} | "
            f"{paired.only_champion_right:,} |"
        )
        yield f"| McNemar's exact p of such a lead | {paired.p_better:.3g} | {paired.p_worse:.3g} |"
    for name, one in comparison.classes.items():
        before = "" if one.champion is None else f"{one.champion:.2%}"
        shown = name.replace("|", "\\|")
        yield f"| recall of {shown} ({one.images:,}) | {one.challenger:.2%} | {before} |"


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
    if promotion.unseen_by_champion:
        yield (
            "new test images",
            f"{promotion.unseen_by_champion:,} were not in the champion's own test split, and may "
            "be among those that it was trained on, which would favour it",
        )
    if promotion.test_digest:
        yield "test split", f"`{promotion.test_digest[:16]}`"
    for name, value in promotion.thresholds.model_dump().items():
        yield f"promote.{name}", "null" if value is None else f"{value:g}"


def _version(version: str, digest: str | None) -> str:
    return f"version {version}, weights `{(digest or 'unknown')[:16]}`"
