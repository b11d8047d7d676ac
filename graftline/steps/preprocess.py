"""Step ``preprocess``: every image decoded once and shrunk to what the model takes at most."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from graftline.compute import Arrays, map_chunks
from graftline.core.files import replacing_directory
from graftline.core.params import Params
from graftline.core.progress import progress
from graftline.core.records import Dataset, Preprocessed, Split
from graftline.core.workspace import Workspace
from graftline.data.decoding import collected_warnings
from graftline.data.resize import shrink
from graftline.data.shards import (
    RAW,
    PackedImages,
    ShardWriter,
    coded,
    read_manifest,
    write_manifest,
)

_BATCH_BYTES = 8 << 20


def preprocess(workspace: Workspace, params: Params) -> Preprocessed:
    """Brings ``data/loaded/`` to ``data/preprocessed/``: raw pixels, no larger than the input.

    Order, labels, splits and identities (sha256) are those of ``data/loaded/``.

    Raises:
        MissingOutputError: If ``load`` has not run.
        DataError: If a stored image cannot be decoded any more.
        StorageFullError: If the disk is full.
    """
    dataset = Dataset.read_in(workspace)
    columns = read_manifest(workspace.loaded)
    images = PackedImages(workspace.loaded, columns)
    size_px = params.preprocess.size_px
    # The decoder's warnings were reported when the images were loaded.
    with replacing_directory(workspace.preprocessed, sealed=True) as folder, collected_warnings():
        places, shapes = _packed(images, Shrinking(workspace, size_px), folder)
        different = np.unique(shapes, axis=0)
        write_manifest(
            folder,
            {
                **columns,
                "encoding": coded(np.zeros(len(images), np.int32), [RAW]),
                **dict(zip(("shard", "offset", "length"), places.T, strict=True)),
                **dict(zip(("height", "width", "channels"), shapes.T, strict=True)),
            },
        )
        splits: tuple[Split, ...] = get_args(Split)
        record = Preprocessed(
            dataset_digest=dataset.digest,
            size_px=size_px,
            classes=dataset.classes,
            counts={split: dataset.total(split) for split in splits},
            uniform_shape=tuple(different[0].tolist()) if len(different) == 1 else None,
            shrunk=int((images.shapes[:, :2] > size_px).any(axis=1).sum()),
            white=dataset.white,
            drawings=dataset.drawings,
        )
        record.write(folder / record.file_name())
    return record


def _packed(
    images: PackedImages, work: Shrinking, folder: Path
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Writes the shards; the place (shard, offset, length) and the shape of each image, (n, 3)."""
    places, shapes = np.empty((len(images), 3), np.int64), np.empty((len(images), 3), np.int32)
    done = 0
    here = partial(_shrunk, images, work.size_px)
    with ShardWriter(folder) as shards, progress("preprocess", len(images)) as bar:
        for _, shrunk in map_chunks("shrunk", work, _batches(images), here=here):
            pixels, at = shrunk["pixels"], 0
            for shape in shrunk["shapes"]:
                end = at + int(shape.prod())
                places[done], shapes[done] = shards.append(pixels[at:end].data), shape
                at, done = end, done + 1
            bar.advance(len(shrunk["shapes"]))
    return places, shapes


@dataclass(frozen=True)
class Shrinking:
    """Shrinks loaded images by their positions, in whichever process.

    Args:
        workspace: Where ``data/loaded/`` lies.
        size_px: What the model takes at most.
    """

    workspace: Workspace
    size_px: int

    @contextmanager
    def opened(self) -> Iterator[Callable[[Sequence[int]], Arrays]]:
        """Gives the function from positions to ``pixels`` (bytes,) and ``shapes`` (n, 3)."""
        images = PackedImages.open(self.workspace.loaded)
        with collected_warnings():
            yield partial(_shrunk, images, self.size_px)


def _shrunk(images: PackedImages, size_px: int, positions: Sequence[int]) -> Arrays:
    shrunk = [shrink(images.image(position), size_px) for position in positions]
    return {
        "pixels": np.concatenate([image.reshape(-1) for image in shrunk]),
        "shapes": np.array([image.shape for image in shrunk], np.int32),
    }


def _batches(images: PackedImages) -> Iterator[list[int]]:
    # Bounded by what the decoded images hold, so that memory does not grow with the data.
    batch: list[int] = []
    batch_bytes = 0
    for index in range(len(images)):
        size_bytes = math.prod(images.shape(index))
        if batch and batch_bytes + size_bytes > _BATCH_BYTES:
            yield batch
            batch, batch_bytes = [], 0
        batch.append(index)
        batch_bytes += size_bytes
    if batch:
        yield batch
