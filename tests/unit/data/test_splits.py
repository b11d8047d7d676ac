from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftline.core.errors import DataError
from graftline.core.records import SPLITS
from graftline.data.splits import (
    NO_SPLIT,
    Images,
    _quotas,
    assigned,
    natural_order,
    refuse_missing_classes,
)

FRACTIONS = {"validation_fraction": 0.1, "test_fraction": 0.2}


class Image(NamedTuple):
    sha256: str
    label: str
    split: str | None


def fresh(counts: dict[str, int], split=None, start: int = 0) -> list[Image]:
    """Images that all differ."""
    return [
        Image(f"{label}-{start + number}", label, split)
        for label, count in counts.items()
        for number in range(count)
    ]


def by_split(images, splits):
    counts = defaultdict(Counter)
    for image, split in zip(images, splits, strict=True):
        counts[split][image.label] += 1
    return {split: dict(counted) for split, counted in counts.items()}


def split(images, seed=0, **fractions):
    classes = sorted({image.label for image in images})
    columns = Images(
        np.array([image.sha256.encode() for image in images]),
        np.array([classes.index(image.label) for image in images], np.int32),
        np.array(
            [NO_SPLIT if image.split is None else SPLITS.index(image.split) for image in images],
            np.int8,
        ),
        classes,
    )
    splits = assigned(columns, seed=seed, **{**FRACTIONS, **fractions})
    return [SPLITS[split] for split in splits]


def refuse_missing(classes, placed):
    counts = Counter(placed)
    table = np.array([[counts[label, split] for label in classes] for split in SPLITS])
    refuse_missing_classes(classes, table)


def test_shares_of_each_class():
    images = fresh({"a": 500, "b": 50})
    assert by_split(images, split(images)) == {
        "test": {"a": 100, "b": 10},
        "validation": {"a": 40, "b": 4},
        "train": {"a": 360, "b": 36},
    }


def test_the_sum_is_right_where_no_class_divides():
    images = fresh(dict.fromkeys("abcdefghij", 13))
    counts = by_split(images, split(images))
    assert sum(counts["test"].values()) == 26
    assert sum(counts["validation"].values()) == 10
    assert set(counts["test"].values()) == {2, 3}


def test_a_given_test_split_is_kept():
    images = fresh({"a": 100, "b": 100}, "train") + fresh({"a": 7, "b": 9}, "test", 1000)
    splits = split(images)
    assert by_split(images, splits) == {
        "train": {"a": 90, "b": 90},
        "validation": {"a": 10, "b": 10},
        "test": {"a": 7, "b": 9},
    }


def test_all_given_splits_are_kept():
    images = [
        image
        for part, name in enumerate(("train", "validation", "test"))
        for image in fresh({"a": 3, "b": 3}, name, part * 10)
    ]
    assert split(images) == [image.split for image in images]


def test_a_lacking_test_split_is_taken_from_training():
    images = fresh({"a": 40, "b": 40}, "train") + fresh({"a": 10, "b": 10}, "validation", 100)
    assert by_split(images, split(images)) == {
        "train": {"a": 30, "b": 30},
        "validation": {"a": 10, "b": 10},
        "test": {"a": 10, "b": 10},
    }


def test_another_seed_gives_another_split():
    images = fresh({"a": 50, "b": 50})
    assert split(images, seed=0) != split(images, seed=1)


def test_the_test_split_does_not_depend_on_the_validation_fraction():
    images = fresh({"a": 50, "b": 50})
    one, other = split(images), split(images, validation_fraction=0.4)
    assert [name == "test" for name in one] == [name == "test" for name in other]


def test_copies_of_a_given_test_image_stay_in_training():
    leaked = [Image(f"leak-{number}", "a", "train") for number in range(8)]
    images = [
        *leaked,
        *(image._replace(split="test") for image in leaked),
        *fresh({"a": 2, "b": 10}, "train"),
        *fresh({"b": 3}, "test", 100),
    ]
    assert split(images, validation_fraction=0.5)[:8] == ["train"] * 8


def test_identical_images_under_two_labels_stay_together():
    images = fresh({"a": 10, "b": 10})
    images += [Image("same", "a", None), Image("same", "b", None), Image("same", "b", None)]
    for seed in range(20):
        assert len(set(split(images, seed=seed)[-3:])) == 1


def test_too_small_classes_are_all_named():
    images = fresh({"cat": 2, "dog": 30, "eel": 1})
    with pytest.raises(DataError) as caught:
        split(images)
    text = str(caught.value)
    assert "train, validation, test" in text
    assert "class 'cat' has 2 images" in text
    assert "class 'eel' has 1 image" in text
    assert "dog" not in text
    assert "at least 3 different images" in text


def test_many_copies_are_no_images_to_split():
    images = [Image("one", "cat", None)] * 50 + fresh({"dog": 30})
    with pytest.raises(DataError, match=r"class 'cat' has 50 images, among them 1 different"):
        split(images)


def test_images_that_another_class_has_too_are_not_its_own():
    shared = [Image(f"shared-{number}", label, None) for number in range(6) for label in "aab"]
    with pytest.raises(DataError, match=r"class 'b' has 7 images, among them 1 different"):
        split(shared + fresh({"b": 1}))


def test_three_images_are_enough():
    images = fresh({"a": 3, "b": 300})
    assert {name: counts["a"] for name, counts in by_split(images, split(images)).items()} == {
        "train": 1,
        "validation": 1,
        "test": 1,
    }


def test_either_all_images_have_a_split_or_none():
    with pytest.raises(DataError, match="some images have a split and others have none"):
        split(fresh({"a": 9}, "train") + fresh({"b": 9}))


def test_missing_classes_are_named_with_their_counts():
    placed = [("a", "train"), ("a", "validation"), ("a", "test"), ("b", "test"), ("b", "test")]
    with pytest.raises(DataError) as caught:
        refuse_missing(["a", "b"], placed)
    text = str(caught.value)
    assert (
        "class 'b' has no image in train and validation (0 in train, 0 in validation, 2 in test)"
        in text
    )
    assert "class 'a'" not in text


def test_a_class_without_any_image_is_named():
    placed = [(label, name) for label in "ab" for name in ("train", "validation", "test")]
    with pytest.raises(DataError, match="class 'c' has no image in train and validation and test"):
        refuse_missing(["a", "b", "c"], placed)


def test_a_single_class():
    with pytest.raises(DataError, match="there is a single class, 'a'"):
        refuse_missing(["a"], [("a", "train")])


def test_classes_are_sorted_as_people_count():
    assert natural_order(["10", "9", "0"]) == ["0", "9", "10"]
    assert natural_order(["b2", "b10", "a", "b1"]) == ["a", "b1", "b2", "b10"]
    assert natural_order(["1", "a", "01", "²"]) == ["01", "1", "a", "²"]


@given(st.lists(st.text(), unique=True))
def test_any_names_can_be_sorted(names):
    assert natural_order(names) == natural_order(reversed(names))
    assert sorted(natural_order(names)) == sorted(names)


@st.composite
def data_sets(draw):
    """Images of two to four classes, some of them several times, some under two labels."""
    images = []
    for label in "abcd"[: draw(st.integers(2, 4))]:
        # Three or more different ones that no other label has: enough to split in any case.
        copies = draw(st.lists(st.integers(1, 4), min_size=3, max_size=40))
        images += [
            Image(f"{label}{number}", label, None)
            for number, count in enumerate(copies)
            for _ in range(count)
        ]
    images += [
        Image(f"shared{number}", label, None)
        for number in range(draw(st.integers(0, 3)))
        for label in "ab"
    ]
    return images


@given(data_sets(), st.integers(0, 2**31 - 1), st.floats(0.01, 0.6), st.floats(0.01, 0.6))
def test_identical_images_never_straddle_and_every_class_is_everywhere(
    images, seed, validation_fraction, test_fraction
):
    splits = split(
        images, seed=seed, validation_fraction=validation_fraction, test_fraction=test_fraction
    )
    of_content = defaultdict(set)
    for image, name in zip(images, splits, strict=True):
        of_content[image.sha256].add(name)
    assert all(len(names) == 1 for names in of_content.values())
    refuse_missing(
        sorted({image.label for image in images}),
        ((image.label, name) for image, name in zip(images, splits, strict=True)),
    )


@given(data_sets(), st.randoms(use_true_random=False), st.integers(0, 100))
def test_the_order_of_files_does_not_matter(images, random, seed):
    shuffled = list(images)
    random.shuffle(shuffled)
    one = Counter(zip(images, split(images, seed=seed), strict=True))
    other = Counter(zip(shuffled, split(shuffled, seed=seed), strict=True))
    assert one == other


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_shares_that_sum_to_a_half_are_rounded_alike_in_any_order(order):
    # 0.9 + 3.3 + 3.3 is 7.5 in one order and 7.499999999999999 in another.
    counts = {label: {"a": 3, "b": 11, "c": 11}[label] for label in order}
    assert sum(_quotas(counts, 0.3).values()) == 8


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(10, 80), min_size=2),
    st.floats(0.1, 0.5),
    st.floats(0.1, 0.5),
)
def test_shares_are_right_to_one_image(counts, validation_fraction, test_fraction):
    images = fresh(counts)
    found = by_split(
        images, split(images, validation_fraction=validation_fraction, test_fraction=test_fraction)
    )
    for label, count in counts.items():
        test = found["test"][label]
        assert abs(test - count * test_fraction) <= 1
        assert abs(found["validation"][label] - (count - test) * validation_fraction) <= 1
