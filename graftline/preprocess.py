"""Step ``preprocess``: every image decoded once and shrunk to what the model takes at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from graftline.artifacts import Dataset, Preprocessed, Split
from graftline.images import Pixels
from graftline.load import DATASET
from graftline.packed import RAW, PackedImages, Row, ShardWriter, read_rows, write_manifest
from graftline.parallel import ordered_map
from graftline.params import Params
from graftline.progress import progress
from graftline.storage import replacing_directory
from graftline.workspace import Workspace

PREPROCESSED = "preprocessed.json"
_BATCH_BYTES = 8 << 20


def preprocess(workspace: Workspace, params: Params) -> Preprocessed:
    """Brings ``data/loaded/`` to ``data/preprocessed/``: raw pixels, no larger than the input.

    Order, labels, splits and identities (sha256) are those of ``data/loaded/``.

    Raises:
        MissingOutputError: If ``load`` has not run.
        DataError: If a stored image cannot be decoded any more.
        StorageFullError: If the disk is full.
    """
    dataset = Dataset.read(workspace.loaded / DATASET)
    images = PackedImages.open(workspace.loaded)
    size_px = params.preprocess.size_px
    with replacing_directory(workspace.preprocessed) as folder:
        rows = _packed(images, read_rows(workspace.loaded), size_px, folder)
        write_manifest(folder, rows)
        splits: tuple[Split, ...] = get_args(Split)
        shapes = {(row.height, row.width, row.channels) for row in rows}
        record = Preprocessed(
            dataset_digest=dataset.digest,
            size_px=size_px,
            classes=dataset.classes,
            counts={split: dataset.total(split) for split in splits},
            uniform_shape=shapes.pop() if len(shapes) == 1 else None,
            shrunk=sum(max(images.shape(index)[:2]) > size_px for index in range(len(images))),
        )
        record.write(folder / PREPROCESSED)
    return record


def shrink(image: Pixels, size_px: int) -> Pixels:
    """Shrinks an image to at most ``size_px`` in each direction, antialiased; never enlarges.

    Height and width shrink each for itself, as the model's own resizing does: the aspect ratio is
    not kept.

    Args:
        image: Height, width, channels (1 or 3).
        size_px: The largest height and width, pixels.

    Returns:
        Height, width, channels; the image itself if it is small enough.
    """
    height, width, channels = image.shape
    if max(height, width) <= size_px:
        return image
    whole = Image.fromarray(image[..., 0] if channels == 1 else image)
    small = whole.resize((min(width, size_px), min(height, size_px)), Image.Resampling.BILINEAR)
    return np.asarray(small).reshape(small.height, small.width, channels)


def _packed(images: PackedImages, rows: Sequence[Row], size_px: int, folder: Path) -> list[Row]:
    def shrunk(positions: Sequence[int]) -> list[Pixels]:
        return [shrink(images.image(position), size_px) for position in positions]

    packed: list[Row] = []
    with ShardWriter(folder) as shards, progress("preprocess", len(rows)) as bar:
        for batch in ordered_map(shrunk, _batches(images)):
            for image in batch:
                shard, offset, length = shards.append(np.ascontiguousarray(image).data.cast("B"))
                height, width, channels = image.shape
                packed.append(
                    rows[len(packed)]._replace(
                        encoding=RAW,
                        shard=shard,
                        offset=offset,
                        length=length,
                        height=height,
                        width=width,
                        channels=channels,
                    )
                )
            bar.advance(len(batch))
    return packed


def _batches(images: PackedImages) -> Iterator[list[int]]:
    # Bounded by what the decoded images hold, so that memory does not grow with the data.
    batch: list[int] = []
    size_bytes = 0
    for index in range(len(images)):
        height, width, channels = images.shape(index)
        if batch and size_bytes + height * width * channels > _BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
        batch.append(index)
        size_bytes += height * width * channels
    if batch:
        yield batch
