"""Examples: each one exactly once, in whatever order and chunks."""

from __future__ import annotations

import numpy as np
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


@given(data=st.data(), count=st.integers(1, 80), batch_size=st.integers(1, 50))
def test_each_example_is_shown_once_in_the_order_asked_for(
    data: st.DataObject, count: int, batch_size: int
) -> None:
    order = np.array(data.draw(st.permutations(range(count))), dtype=np.int64)
    values, labels = shown(numbered(count), batch_size, order)
    assert values == labels == order.tolist()
    assert shown(numbered(count), batch_size)[0] == list(range(count))


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
