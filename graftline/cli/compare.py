"""Shows ``graftline compare``: two models side by side."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graftline.core.errors import visible
from graftline.core.workspace import Workspace
from graftline.evaluation.comparison import Paired
from graftline.inference.side_by_side import Side, SideBySide, side_by_side

_TRAINING = ("validation_accuracy", "validation_loss")


def show_comparison(workspace: Workspace, *, one: str, other: str, as_json: bool) -> int:
    """Runs ``graftline compare``.

    Returns:
        The exit code 0.
    """
    found = side_by_side(workspace, one, other)
    console = Console(highlight=False, soft_wrap=as_json)
    if as_json:
        console.print(found.model_dump_json(indent=2), markup=False)
        return 0
    for letter, side in (("A", found.a), ("B", found.b)):
        console.print(f"{letter}  {_told(side)}", markup=False, soft_wrap=True)
    if found.params:
        table = Table("parameter", "A", "B")
        for key, values in found.params.items():
            table.add_row(key, *(escape(visible(value or "not known")) for value in values))
        console.print(table)
    else:
        console.print(_no_params(found), markup=False, soft_wrap=True)
    if rows := list(_metrics(found)):
        table = Table("metric")
        for title in ("A", "B", "B - A"):
            table.add_column(title, justify="right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in _test(found):
        console.print(line, markup=False, soft_wrap=True)
    return 0


def _told(side: Side) -> str:
    run = f", run {side.run_id[:12]}" if side.run_id else ""
    digest = f", weights {side.weight_digest[:12]}" if side.weight_digest else ""
    return f"{visible(side.name)}{run}{digest}"


def _no_params(found: SideBySide) -> str:
    unknown = [letter for letter, side in (("A", found.a), ("B", found.b)) if not side.has_params]
    if unknown:
        return f"parameters  those of {' and '.join(unknown)} are not known: a folder has none"
    return "parameters  the same"


def _metrics(found: SideBySide) -> Iterator[tuple[str, str, str, str]]:
    for name, (a, b) in found.metrics.items():
        if name in _TRAINING or (name.startswith("test_") and "/" not in name):
            difference = "" if a is None or b is None else f"{b - a:+.4f}"
            yield name, _number(a), _number(b), difference


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value.is_integer() and value > 1 else f"{value:.4f}"


def _test(found: SideBySide) -> Iterator[str]:
    paired = found.paired
    if paired is None:
        yield f"paired test  none: {found.not_paired}"
        return
    a = paired.champion_accuracy
    yield (
        f"On the same {paired.images or 0:,} test images A names {a:.2%} rightly and B "
        f"{a + paired.difference:.2%}: {_points(paired.difference)} "
        f"({paired.confidence:.0%} interval {_points(paired.difference_low)} to "
        f"{_points(paired.difference_high)})."
    )
    yield (
        f"{paired.only_champion_right:,} images only A gets right, "
        f"{paired.only_challenger_right:,} only B. {_verdict(paired)}"
    )


def _verdict(paired: Paired) -> str:
    level = (1 - paired.confidence) / 2
    for letter, p in (("B", paired.p_better), ("A", paired.p_worse)):
        if p <= level:
            return f"{letter} is surely better: McNemar's exact p {p:.3g}, level {level:.3g}."
    p = min(paired.p_better, paired.p_worse)
    return f"Neither is surely better: McNemar's exact p {p:.3g}, level {level:.3g}."


def _points(share: float) -> str:
    return f"{share * 100:+.2f} points"
