"""What the sweep found, as a table: auto, the textbook's rule and the best that was trained.

A task that is repeated counts as one: a candidate's accuracy is the mean over its repeats, which
test on the same images or each on its own, and ``auto`` is what was chosen in each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import permutation_test

from graftline.core.files import write_text
from graftline.core.markdown import table
from graftline.evaluation.calibration import accuracy_interval
from graftline.selection.records import Verdict

COLUMNS = (
    "task",
    "trained",
    "test images",
    "best of the sweep, test accuracy",
    "auto, test accuracy (95 %)",
    "less than the best, points",
    "less than the best by other images",
    "p that it is no worse than the best",
    "textbook, test accuracy",
    "auto's cost, share of these trainings'",
    "share of every cut x every boundary",
    "seconds, auto / sweep",
)
_HALVES = 2000
_RESAMPLES = 9999


@dataclass(frozen=True)
class Repeat:
    """What is finished of one repeat of a task.

    Args:
        grid: Names of what the sweep trains, without what only ``auto`` or the rule chose.
        results: What came of each training, by name.
        chosen: The content of ``chosen.json``.
        exhaustive: Multiply-adds of training every cut at every boundary, done or not.
        own_test: Whether no other repeat tests on its images.
    """

    grid: Sequence[str]
    results: dict[str, dict[str, Any]]
    chosen: dict[str, Any]
    exhaustive: int
    own_test: bool = False

    def write(self, file: Path) -> None:
        """Keeps what the table needs."""
        wanted = ("right", "tested", "answers", "multiply_adds", "seconds")
        results = {
            name: {key: result[key] for key in wanted} for name, result in self.results.items()
        }
        chosen = {key: self.chosen[key] for key in ("seconds", "verdict")}
        record = replace(self, results=results, chosen=chosen)
        write_text(file, json.dumps(asdict(record), indent=1) + "\n")

    @classmethod
    def read(cls, file: Path) -> Repeat:
        """What ``write`` kept."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    @property
    def verdict(self) -> Verdict:
        """Of ``auto``."""
        return Verdict.model_validate_json(json.dumps(self.chosen["verdict"]))


@dataclass(frozen=True)
class Answers:
    """What one choice, or one candidate, answered.

    Args:
        name: Of the candidates, each once.
        right: Whether each test image is right, (repeats, images).
        own_test: Whether each repeat has images of its own.
    """

    name: str
    right: NDArray[np.bool_]
    own_test: bool

    @property
    def shares(self) -> NDArray[np.float64]:
        """Of each test image, in how many of the repeats that test on it it is right, (images,)."""
        shares = self.right.ravel() if self.own_test else self.right.mean(axis=0)
        return np.asarray(shares, np.float64)

    @property
    def accuracy(self) -> float:
        """Over all repeats."""
        return float(self.right.mean())


def show(tasks: dict[str, Sequence[Repeat]], kept: Path) -> None:
    """The table of all tasks, on the terminal and as Markdown in a file."""
    rows = [_row(name, repeats) for name, repeats in tasks.items()]
    shown = Table(title="auto against the sweep")
    for column in COLUMNS:
        shown.add_column(column)
    for cells in rows:
        shown.add_row(*cells)
    Console(width=220).print(shown)
    write_text(kept, table(COLUMNS, rows, "l" * len(COLUMNS)) + "\n")


def _row(name: str, repeats: Sequence[Repeat]) -> list[str]:
    """One task's, in the order of ``COLUMNS``."""
    auto = _answers(repeats, [repeat.verdict.chosen for repeat in repeats])
    rule = _answers(repeats, [repeat.verdict.textbook for repeat in repeats])
    every = [_answers(repeats, [one] * len(repeats)) for one in repeats[0].grid]
    best = max([*every, auto, rule], key=lambda one: one.accuracy)
    images = len(auto.shares)
    # Where repeats share their test images, the interval is that of these images asked once.
    low, high = accuracy_interval(round(auto.accuracy * images), images)
    # Only the grid: what auto chose beside it must not make the sweep look dearer.
    swept = [repeat.results[one] for repeat in repeats for one in repeat.grid]
    cost = sum(result["multiply_adds"] for result in swept)
    exhaustive = sum(repeat.exhaustive for repeat in repeats)
    spent = sum(repeat.verdict.spent for repeat in repeats)
    seconds = sum(result["seconds"] for result in swept)
    choosing = sum(repeat.chosen["seconds"] for repeat in repeats)
    times = f"{len(repeats)} x " if len(repeats) > 1 else ""
    return [
        name,
        f"{times}{len(repeats[0].grid)}",
        f"{images:,}",
        f"{100 * best.accuracy:.2f} {best.name}",
        f"{100 * auto.accuracy:.2f} ({100 * low:.1f} to {100 * high:.1f}) {auto.name}",
        f"{100 * (best.accuracy - auto.accuracy):.2f}",
        f"{100 * less_by_halves(auto, [*every, auto, rule]):.2f}",
        f"{p_no_worse(auto, best):.3f}",
        f"{100 * rule.accuracy:.2f} {rule.name}",
        f"{spent / cost:.1%}",
        f"{spent / exhaustive:.1%}",
        f"{choosing:.0f} / {seconds:.0f}",
    ]


def _answers(repeats: Sequence[Repeat], names: Sequence[str]) -> Answers:
    """What the named candidates answered, one of each repeat."""
    right = [_unpacked(repeat.results[name]) for repeat, name in zip(repeats, names, strict=True)]
    return Answers(", ".join(dict.fromkeys(names)), np.stack(right), repeats[0].own_test)


def _unpacked(result: dict[str, Any]) -> NDArray[np.bool_]:
    packed = np.frombuffer(bytes.fromhex(result["answers"]), np.uint8)
    return np.unpackbits(packed, count=result["tested"]).astype(bool)


def p_no_worse(auto: Answers, best: Answers) -> float:
    """McNemar's one-sided test, for images that are answered once or several times.

    Either of the two is right more often on an image by chance: the signs of the differences are
    drawn anew. With one repeat that is what the exact test counts.
    """

    def mean_difference(one: Any, other: Any, axis: int = -1) -> Any:
        return np.mean(one - other, axis=axis)

    found = permutation_test(
        (auto.shares, best.shares),
        mean_difference,
        permutation_type="samples",
        alternative="less",
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=100,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def less_by_halves(auto: Answers, every: Sequence[Answers]) -> float:
    """How much less than the sweep's best is right when the best is picked on other images.

    The best of many on the very images that it is picked by looks better than it is. So it is
    picked on one half of the test images and compared on the other; the mean over random halves.
    The trainings that it is picked by favour it as well: where there are several, each repeat is
    compared in with what the others pick.
    """
    right = np.array([one.right for one in every], np.float64)  # (candidates, repeats, images)
    repeats = [*range(right.shape[1])]
    chance = np.random.default_rng(0)
    less = []
    for half in range(_HALVES):
        picked_on, compared_on = np.array_split(chance.permutation(right.shape[2]), 2)
        mine = repeats[half % len(repeats)]
        others = [one for one in repeats if one != mine] or [mine]
        accuracies = right[:, others][:, :, picked_on].mean(axis=(1, 2))
        best = right[np.isclose(accuracies, accuracies.max(), rtol=0, atol=1e-12), mine]
        less.append(best[:, compared_on].mean() - auto.right[mine, compared_on].mean())
    return float(np.mean(less))
