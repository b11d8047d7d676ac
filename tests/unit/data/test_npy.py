from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftline.core.errors import MissingOutputError
from graftline.data.npy import ArrayReader, ArrayWriter, mapped_bytes, pieces


@given(data=st.data(), count=st.integers(1, 12), batch=st.integers(1, 12))
def test_rows_in_any_order_make_the_array(
    data: st.DataObject, count: int, batch: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    order = np.array(data.draw(st.permutations(range(count))))
    values = np.arange(count * 6, dtype=np.float32).reshape(count, 2, 3)
    with ArrayWriter(path, "float32", (count,), (2, 3)) as writer:
        for at in range(0, count, batch):
            rows = order[at : at + batch]
            writer.put(rows, values[rows].reshape(len(rows), 6))
    np.testing.assert_array_equal(np.load(path), values)
    np.testing.assert_array_equal(ArrayReader(path).read(order), values[order])


def test_views_are_the_first_axis(tmp_path: Path) -> None:
    values = np.arange(24).reshape(2, 4, 3)
    with ArrayWriter(tmp_path / "a.npy", "float16", (2, 4), (3,)) as writer:
        writer.put(np.arange(8), values.reshape(8, 3))
    stored = ArrayReader(tmp_path / "a.npy")
    assert stored.array.shape == (2, 4, 3)
    read = stored.read(np.array([3, 0]), view=1)
    assert read.dtype == np.float16
    np.testing.assert_array_equal(read, values[1, [3, 0]])


def test_what_is_read_is_a_copy_and_its_pages_are_given_back(tmp_path: Path) -> None:
    rows, row_size = 4000, 25_000  # 400 MB of zeros, of which the disk holds none.
    with ArrayWriter(tmp_path / "a.npy", "float32", (rows,), (row_size,)):
        pass
    stored = ArrayReader(tmp_path / "a.npy")
    before_bytes = psutil.Process().memory_info().rss
    peak_bytes = before_bytes
    for at in range(0, rows, 100):
        stored.read(np.arange(at, at + 100))
        peak_bytes = max(peak_bytes, psutil.Process().memory_info().rss)
    assert peak_bytes - before_bytes < 250e6
    one = stored.read(np.arange(1))
    one += 1  # The file is mapped for reading alone.
    assert not stored.read(np.arange(1)).any()


@pytest.mark.parametrize("content", [None, b"", b"no array at all"])
def test_a_file_that_is_no_array_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MissingOutputError) as caught:
        ArrayReader(path)
    assert str(path) in str(caught.value)


def test_what_is_mapped_by_reading_counts_what_the_system_maps_around_it() -> None:
    around = 64 << 10
    assert mapped_bytes(np.array([], np.int64), 10) == 0
    assert mapped_bytes(np.array([70]), 10) == 10 + around
    # Far from each other, and side by side.
    assert mapped_bytes(np.arange(0, 1 << 30, 1 << 20), 10) == 1024 * (10 + around)
    assert mapped_bytes(np.arange(0, 10_000, 10), 10) == 10_000 + around


@given(
    st.lists(st.integers(0, 1 << 30), max_size=200),
    st.integers(1, 200_000),
    st.integers(1, 1 << 22),
)
def test_pieces_have_every_start_once_and_none_maps_more_than_it_may(
    starts: list[int], size_bytes: int, most_bytes: int
) -> None:
    given_starts = np.array(starts, np.int64)
    found = list(pieces(given_starts, size_bytes, most_bytes))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(starts)))
    for piece in found:
        mapped = mapped_bytes(given_starts[piece], size_bytes)
        assert mapped <= most_bytes or len(piece) == 1


@pytest.mark.parametrize("view", [None, 1])
def test_rows_far_from_each_other_come_as_they_were_asked_for(
    tmp_path: Path, view: int | None
) -> None:
    views, rows, row_size = 2, 3000, 2000
    values = np.arange(views * rows * row_size, dtype=np.uint8).reshape(views, rows, row_size)
    # 3 000 rows, each with 64 kB around it, would map more than is kept.
    whole = values if view is not None else values.reshape(views * rows, row_size)
    np.save(tmp_path / "a.npy", whole)
    chosen = np.random.default_rng(0).permutation(rows)
    found = ArrayReader(tmp_path / "a.npy").read(chosen, view)
    assert np.array_equal(found, (whole if view is None else whole[view])[chosen])
