"""Images of several shapes are read as the network's own preparation would bring them to one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graftline.core.backbones import PIXELS
from graftline.data.shards import RAW, PackedImages, ShardWriter, write_manifest
from graftline.network.classifier import build_preparation
from graftline.training.datasets import images_of

SIZE_PX = 32
SHAPES = [(32, 32, 3), (32, 32, 1), (20, 32, 3), (7, 9, 1), (32, 32, 3), (20, 32, 3)]


@pytest.mark.parametrize("kept_bytes", [0, 2 * SIZE_PX**2 * 3, 1 << 20])
def test_mixed_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_bytes: int) -> None:
    monkeypatch.setattr("graftline.training.datasets._KEPT_BYTES", kept_bytes)
    rng, count = np.random.default_rng(0), len(SHAPES)
    pixels = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in SHAPES]
    with ShardWriter(tmp_path) as shards:
        places = [shards.append(image.reshape(-1).data) for image in pixels]
    named = {"class": "a", "split": "train", "source": "made", "encoding": RAW}
    columns = {name: [value] * count for name, value in named.items()}
    columns["sha256"] = [f"{number}" for number in range(count)]
    numbers = dict(zip(("shard", "offset", "length"), np.transpose(places), strict=True))
    numbers |= dict(zip(("height", "width", "channels"), np.transpose(SHAPES), strict=True))
    write_manifest(tmp_path, columns | numbers | {"label": np.zeros(count)})
    examples = images_of(PackedImages.open(tmp_path), np.arange(count), SIZE_PX)
    preparation = build_preparation(SIZE_PX, PIXELS)
    expected = np.stack([np.rint(np.asarray(preparation(one[None]))[0]) for one in pixels])
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1], [2, 3, 5, 0]):
        assert (examples.read(np.array(order)) == expected[order]).all()
