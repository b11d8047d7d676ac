from __future__ import annotations

import pytest

from graftline.comparison import ClassRecall, Comparison, Paired
from graftline.gate import checks
from graftline.params import PromoteParams

ASKED = PromoteParams(min_accuracy=0.9, margin=-0.01, significance=0.05, max_recall_drop=0.05)


def paired(**changes: float) -> Paired:
    known = {
        "champion_accuracy": 0.95,
        "difference": 0.0,
        "difference_low": -0.005,
        "difference_high": 0.005,
        "confidence": 0.9,
        "only_challenger_right": 5,
        "only_champion_right": 5,
        "p_better": 0.6,
        "p_worse": 0.6,
    }
    return Paired.model_validate(known | changes)


def comparison(
    accuracy: float = 0.95,
    recalls: dict[str, tuple[int, float, float]] | None = None,
    **changes: float,
) -> Comparison:
    return Comparison(
        images=1000,
        challenger_accuracy=accuracy,
        paired=paired(**changes),
        classes={
            name: ClassRecall(images=images, challenger=mine, champion=theirs)
            for name, (images, mine, theirs) in (recalls or {"a": (100, 0.9, 0.9)}).items()
        },
    )


def failed(found: Comparison, asked: PromoteParams = ASKED, *, first: bool = False) -> list[str]:
    return [check.name for check in checks(found, asked, first=first) if not check.passed]


def test_one_as_good_as_the_champion_passes() -> None:
    assert failed(comparison()) == []


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (comparison(accuracy=0.899), ["min_accuracy"]),
        (comparison(difference_low=-0.011), ["margin"]),
        (comparison(p_worse=0.05), ["significance"]),
        (comparison(recalls={"a": (20, 0.89, 0.95), "b": (20, 1, 1)}), ["max_recall_drop"]),
        (
            comparison(accuracy=0.1, difference_low=-1, p_worse=0),
            ["min_accuracy", "margin", "significance"],
        ),
    ],
)
def test_each_threshold_holds_it_back(found: Comparison, names: list[str]) -> None:
    assert failed(found) == names


def test_exactly_at_a_threshold_is_enough() -> None:
    found = comparison(
        accuracy=0.9, difference_low=-0.01, recalls={"a": (100, 0.92, 0.97)}, p_worse=0.0501
    )
    assert failed(found) == []


def test_a_margin_from_zero_on_asks_for_a_better_one() -> None:
    asked = ASKED.model_copy(update={"margin": 0.0})
    assert failed(comparison(), asked) == ["margin", "significance"]
    assert failed(comparison(difference_low=0.001, p_better=0.04), asked) == []
    assert failed(comparison(difference_low=0.001, p_better=0.06), asked) == ["significance"]


def test_small_classes_are_not_guarded_and_named() -> None:
    recalls = {"a": (19, 0.0, 1.0), "b": (100, 0.9, 0.9)}
    *_, guard = checks(comparison(recalls=recalls), ASKED, first=False)
    assert guard.passed
    assert "1 classes of fewer than 20 images are not guarded" in guard.text


def test_the_classes_that_fall_are_named_the_worst_first() -> None:
    recalls = {"a": (100, 0.8, 0.9), "b": (100, 0.5, 0.9), "c": (100, 0.9, 0.9)}
    *_, guard = checks(comparison(recalls=recalls), ASKED, first=False)
    assert "b from 90.00% to 50.00%, a from 90.00% to 80.00%" in guard.text
    assert "c from" not in guard.text


@pytest.mark.parametrize("name", ["min_accuracy", "margin", "significance", "max_recall_drop"])
def test_what_is_not_set_is_not_passed(name: str) -> None:
    asked = ASKED.model_copy(update={name: None})
    found = comparison()
    if name == "significance":
        found = found.model_copy(update={"paired": None})
    assert failed(found, asked) == [name]


def test_without_thresholds_nothing_passes_not_even_a_perfect_first_one() -> None:
    perfect = comparison(accuracy=1.0, difference_low=0.5, p_better=0, p_worse=1)
    assert failed(perfect, PromoteParams()) == [
        "min_accuracy",
        "margin",
        "significance",
        "max_recall_drop",
    ]
    assert failed(perfect, PromoteParams(), first=True) == ["min_accuracy"]


def test_the_first_one_needs_the_floor_alone() -> None:
    alone = comparison().model_copy(update={"paired": None})
    asked = PromoteParams(min_accuracy=0.95)
    assert failed(alone, asked, first=True) == []
    assert failed(alone, PromoteParams(min_accuracy=0.951), first=True) == ["min_accuracy"]
