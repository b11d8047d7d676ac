"""Examples: each one exactly once, whatever is cut out of them, joined, or shown in chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftline.training.datasets import Examples, Reader


def numbered(count: int, start: int = 0, views: int = 1) -> Examples:
    """Examples that hold their own number, plus a thousand for each view."""
    values = np.arange(start, start + count)

    def reader(view: int) -> Reader:
        return lambda positions: (values[positions] + 1000 * view)[:, None].astype(np.float32)

    first, *further = (reader(view) for view in range(views))
    return Examples(values.astype(np.int32), first, 4, further_views=tuple(further))


def shown(
    examples: Examples, batch_size: int = 7, order: np.ndarray | None = None
) -> tuple[list[int], list[int]]:
    values, labels = [], []
    for chunk, chunk_labels in examples.chunks(batch_size, order):
        assert chunk.shape[:2] == chunk_labels.shape
        values += chunk.ravel().astype(int).tolist()
        labels += chunk_labels.ravel().tolist()
    return values, labels


@given(
    data=st.data(),
    first=st.integers(1, 40),
    second=st.integers(1, 40),
    batch_size=st.integers(1, 50),
)
def test_folds_of_joined_splits_show_each_example_once(
    data: st.DataObject, first: int, second: int, batch_size: int
) -> None:
    joined = numbered(first).concatenated(numbered(second, start=first))
    assert len(joined) == first + second
    places = np.array(data.draw(st.permutations(range(first + second))))
    cut = data.draw(st.integers(0, first + second))
    seen: list[int] = []
    for fold in (places[:cut], places[cut:]):
        part = joined.subset(fold)
        assert len(part) == len(fold)
        order = np.array(data.draw(st.permutations(range(len(fold)))), dtype=np.int64)
        values, labels = shown(part, batch_size, order)
        assert values == labels == fold[order].tolist()
        seen += values
    assert sorted(seen) == list(range(first + second))


@given(places=st.lists(st.integers(0, 19), min_size=1), inner=st.data())
def test_a_subset_of_a_subset(places: list[int], inner: st.DataObject) -> None:
    chosen = np.array(places)
    again = np.array(inner.draw(st.permutations(range(len(places)))))
    values, _ = shown(numbered(20).subset(chosen).subset(again))
    assert values == chosen[again].tolist()


def test_views_are_taken_in_turn() -> None:
    examples = numbered(5, views=3)
    assert examples.views == 3
    for epoch in range(7):
        view = examples.view(epoch)
        assert view.views == 1
        assert shown(view)[0] == [number + 1000 * (epoch % 3) for number in range(5)]
        assert view.view(epoch + 1) is view
    single = numbered(5)
    assert single.view(4) is single


def test_subsets_and_joined_splits_keep_their_views() -> None:
    part = numbered(5, views=2).subset(np.array([3, 1]))
    assert shown(part.view(1))[0] == [1003, 1001]
    for joined, expected in (
        (numbered(2, views=2).concatenated(numbered(1, start=2)), [1000, 1001, 2]),
        (numbered(2).concatenated(numbered(1, start=2, views=2)), [0, 1, 1002]),
    ):
        assert joined.views == 2
        assert shown(joined.view(1))[0] == expected
        assert joined.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("images", [False, True])
def test_images_stay_images(images: bool) -> None:
    labels = np.zeros(2, np.int32)
    some = Examples(labels, lambda places: np.zeros((len(places), 1), np.uint8), 1, images)
    assert some.subset(np.array([0])).images is some.concatenated(some).images is images
