from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from graftline.core.params import PromoteParams
from graftline.evaluation.answers import Answers, TestSplit
from graftline.evaluation.comparison import ClassRecall, Comparison, Paired, compare
from graftline.registry.gate import checks

NOTHING = PromoteParams(min_accuracy=None, margin=None, significance=None, max_recall_drop=None)
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
            name: ClassRecall(
                images=images,
                challenger=mine,
                champion=theirs,
                only_challenger_right=max(0, round((mine - theirs) * images)),
                only_champion_right=max(0, round((theirs - mine) * images)),
            )
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
        (comparison(recalls={"a": (20, 0.3, 0.95), "b": (20, 1, 1)}), ["max_recall_drop"]),
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
    recalls = {"a": (100, 0.7, 0.9), "b": (100, 0.5, 0.9), "c": (100, 0.9, 0.9)}
    *_, guard = checks(comparison(recalls=recalls), ASKED, first=False)
    assert "b from 90.00% to 50.00%, a from 90.00% to 70.00%" in guard.text
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
    assert failed(perfect, NOTHING) == ["min_accuracy", "margin", "significance", "max_recall_drop"]
    assert failed(perfect, NOTHING, first=True) == ["min_accuracy"]


def test_the_first_one_needs_the_floor_alone() -> None:
    alone = comparison().model_copy(update={"paired": None})
    asked = PromoteParams(min_accuracy=0.95)
    assert failed(alone, asked, first=True) == []
    assert failed(alone, PromoteParams(min_accuracy=0.951), first=True) == ["min_accuracy"]


def of_classes(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Comparison:
    """Answers of two models, right or not, each (classes, images)."""
    recalls = {
        f"class {place}": ClassRecall(
            images=len(one),
            challenger=float(other.mean()),
            champion=float(one.mean()),
            only_challenger_right=int((other & ~one).sum()),
            only_champion_right=int((one & ~other).sum()),
        )
        for place, (one, other) in enumerate(zip(before, after, strict=True))
    }
    return comparison().model_copy(update={"classes": recalls})


@pytest.mark.parametrize("classes", [2, 12, 50])
@pytest.mark.parametrize("accuracy", [0.8, 0.95])
def test_equal_models_pass_the_guard_of_many_classes(classes: int, accuracy: float) -> None:
    draw = np.random.default_rng(classes)
    refused = 0
    for _ in range(100):
        before, after = draw.random((2, classes, 20)) < accuracy
        refused += "max_recall_drop" in failed(of_classes(before, after))
    assert refused <= 5


@pytest.mark.parametrize("classes", [2, 12, 50])
def test_a_class_that_collapses_is_refused_among_many(classes: int) -> None:
    draw = np.random.default_rng(classes)
    for _ in range(50):
        before, after = draw.random((2, classes, 20)) < 0.95
        after[0] = draw.random(20) < 0.1
        assert failed(of_classes(before, after)) == ["max_recall_drop"]


def test_a_limit_of_one_guards_no_class() -> None:
    asked = ASKED.model_copy(update={"max_recall_drop": 1.0})
    assert failed(comparison(recalls={"a": (1000, 0.0, 1.0)}), asked) == []


def judged(labels: list[str], predicted: list[str], frequent: str = "common") -> list[str]:
    split = TestSplit(np.arange(len(labels)).astype(str).astype(object), np.array(labels, object))
    found = compare(
        Answers(split, np.array(predicted, object)), None, 0.05, 0, most_frequent=frequent
    )
    texts = [check.text for check in checks(found, ASKED, first=True) if not check.passed]
    return texts


def test_always_naming_the_most_frequent_class_is_no_champion() -> None:
    labels = ["common"] * 995 + ["rare"] * 5
    below, baseline = judged(labels, ["common"] * 1000)
    assert below == (
        "accuracy 99.50% (50.00% with each class counting the same) is below the floor of 90.00%"
    )
    assert baseline == (
        "it is not surely better than always naming common (99.50%): McNemar's exact p 1, level "
        "0.05"
    )
    # All five right: (1/2) to the power of 5 is 0.031.
    assert judged(labels, labels) == []
    # Four of them: 0.0625, and the mean of 1 and 0.8 is the floor.
    [unsure] = judged(labels, [*labels[:-1], "common"])
    assert "McNemar's exact p 0.0625" in unsure


def test_too_few_images_to_be_better_than_the_most_frequent_class_are_told() -> None:
    labels = ["common"] * 96 + ["rare"] * 4
    assert judged(labels, labels) == [
        "too few images: 4 of the 100 test images are of another class than common, and to be "
        "surely better than always naming it takes 5"
    ]


def test_classes_of_one_size_are_told_one_accuracy() -> None:
    labels = ["common"] * 50 + ["rare"] * 50
    [below] = judged(labels, ["common"] * 70 + ["rare"] * 30)
    assert below == "accuracy 80.00% is below the floor of 90.00%"


def test_one_of_the_same_data_must_not_be_worse() -> None:
    lead = {"difference_low": -0.005, "p_worse": 0.5}
    for difference, names in ((-0.001, ["same_data_margin"]), (0.0, []), (0.001, [])):
        found = checks(
            comparison(difference=difference, **lead), ASKED, first=False, same_data=True
        )
        assert [check.name for check in found if not check.passed] == names
    asked = ASKED.model_copy(update={"same_data_margin": -0.001})
    found = checks(comparison(difference=-0.001, **lead), asked, first=False, same_data=True)
    assert all(check.passed for check in found)


def test_a_class_of_which_no_image_is_left_cannot_be_judged() -> None:
    labels = np.array(["common"] * 400 + ["rare"] * 100, object)
    answers = Answers(TestSplit(np.arange(500).astype(str).astype(object), labels), labels)
    counted = np.arange(500) < 400
    found = compare(answers, answers, 0.05, 0, counted=counted, most_frequent="common")
    assert found.missing == ("rare",)
    [few] = [check for check in checks(found, ASKED, first=False) if not check.passed]
    assert few.text == (
        "only 400 of 500 test images are left that neither was trained on, and none of rare"
    )
    # If no class is guarded, the images that are left suffice.
    asked = ASKED.model_copy(update={"max_recall_drop": 1.0})
    assert all(check.passed for check in checks(found, asked, first=False))
