"""What ``load`` keeps of each image: its columns, in the manifest's order, and little memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np

from graftline.data.sources.catalog import SourceSample
from graftline.data.stored import StoredImages

COUNT = 5_000
CLASSES = ["9", "10"]


def sample(name: str, content: int, label: str = "9") -> SourceSample:
    return SourceSample(name, label, None, "raw", b"", f"{content:064x}", 2, 3, 1)


def test_an_image_takes_little_memory() -> None:
    tracemalloc.start()
    try:
        images = StoredImages(CLASSES)
        for at in range(COUNT):
            images.add(sample(f"images[{at}]", at), (0, at * 6, 6))
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(images) == COUNT
    assert kept_bytes / COUNT < 200


def test_the_order_is_by_split_content_label_and_name() -> None:
    images = StoredImages(CLASSES)
    given = [("b", 1, "9"), ("é", 1, "9"), ("a", 1, "9"), ("c", 1, "10"), ("d", 0, "9")]
    for name, content, label in given:
        images.add(sample(name, content, label), (0, 0, 6))
    # Labels as texts here: 10 is before 9.
    splits = np.zeros(len(given), np.int8)
    assert [images.name(at) for at in images.order(splits).tolist()] == ["d", "c", "a", "b", "é"]
    splits[4] = 1
    order = images.order(splits)
    assert [images.name(at) for at in order.tolist()] == ["c", "a", "b", "é", "d"]
    columns: dict[str, Any] = dict(images.columns(order, splits))
    assert columns["source"].to_pylist() == ["c", "a", "b", "é", "d"]
    assert columns["class"].to_pylist() == ["10", "9", "9", "9", "9"]
    assert columns["split"].to_pylist() == ["train"] * 4 + ["validation"]
