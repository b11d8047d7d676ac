"""The input of training: cached features or images, in chunks of whole batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.records import Features, Preprocessed, Split
from graftline.core.stages import POOLED
from graftline.core.workspace import Workspace
from graftline.data.npy import ArrayReader
from graftline.data.shards import PackedImages

_CHUNK_BYTES = 16 << 20
_MAX_STEPS = 64
_KEPT_BYTES = 256 << 20
"""Of images that had another size than the network's; those beyond it are brought to it again."""

Chunk = tuple[NDArray[Any], NDArray[np.int32]]
"""Examples (steps, batch, ...) and their labels (steps, batch)."""
Reader = Callable[[NDArray[np.int64]], NDArray[Any]]
"""From positions in a split to examples (len(positions), ...)."""


@dataclass(frozen=True)
class Examples:
    """One split's examples, read piece by piece so that memory stays bounded.

    Args:
        labels: int32 (n,).
        read: From positions in the split to examples (len(positions), ...).
        example_bytes: The size of one example, bytes.
        images: Whether they are uint8 images, which nothing frozen has looked at yet.
        further_views: Readers of changed views of the same examples, beside ``read``.
    """

    labels: NDArray[np.int32]
    read: Reader
    example_bytes: int
    images: bool = False
    further_views: tuple[Reader, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def views(self) -> int:
        """How many views there are of each example."""
        return 1 + len(self.further_views)

    def view(self, epoch: int) -> Examples:
        """The examples to show in one epoch: the views are taken in turn."""
        if not self.further_views:
            return self
        readers = (self.read, *self.further_views)
        return replace(self, read=readers[epoch % len(readers)], further_views=())

    def chunks(
        self, batch_size: int, order: NDArray[np.int64] | None
    ) -> Iterator[tuple[NDArray[Any], NDArray[np.int32]]]:
        """Every example once, in chunks of several batches.

        Args:
            batch_size: Examples per batch; the last batch may be smaller and is never dropped.
            order: The order of the examples; none for their own.

        Yields:
            Examples (steps, batch, ...) and labels (steps, batch).
        """
        order = np.arange(len(self)) if order is None else order
        fitting = _CHUNK_BYTES // max(1, batch_size * self.example_bytes)
        steps = int(np.clip(fitting, 1, _MAX_STEPS))
        whole = len(order) // batch_size * batch_size
        starts = range(0, whole, steps * batch_size)
        pieces = [order[at : min(at + steps * batch_size, whole)] for at in starts]
        for piece in [*pieces, order[whole:]]:
            if len(piece):
                batch = min(batch_size, len(piece))
                examples, labels = self.read(piece), self.labels[piece]
                yield (examples.reshape(-1, batch, *examples.shape[1:]), labels.reshape(-1, batch))


def read_ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The same chunks, each read while the one before it is worked on."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
        coming = reader.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = reader.submit(next, chunks, None)
            yield chunk


def read_examples(workspace: Workspace, split: Split) -> Examples:
    """The examples of one split: the frozen part's cached outputs where there are any, else images.

    Cached outputs have the type that they were kept in, float16 or float32.

    Raises:
        MissingOutputError: If an earlier step has not run.
    """
    images = PackedImages.open(workspace.preprocessed)
    features = Features.read_in(workspace)
    indices = images.indices(split)
    labels = images.labels[indices].astype(np.int32)
    if features.boundary is not None:
        return _cached(workspace, features, split, labels, f"{split}.npy")
    size_px = Preprocessed.read_in(workspace).size_px
    return images_of(images, indices, size_px)


def images_of(images: PackedImages, indices: NDArray[np.int64], size_px: int) -> Examples:
    """Some images as examples, uint8: as they are if all share a shape, else size_px each way.

    Args:
        images: The preprocessed images.
        indices: Which of them, by their rows in the manifest, (n,).
        size_px: The network's input size.
    """
    labels = images.labels[indices].astype(np.int32)
    if images.uniform_shape is not None:
        return Examples(
            labels,
            lambda positions: images.batch(indices[positions]),
            int(np.prod(images.uniform_shape)),
            images=True,
        )
    reader = _mixed_reader(images, indices, size_px)
    return Examples(labels, reader, size_px * size_px * 3, images=True)


def read_pooled(workspace: Workspace, split: Split) -> Examples:
    """The pooled features of one split at the plan's cut, float32 (n, c): what a head starts from.

    Raises:
        MissingOutputError: If an earlier step has not run.
    """
    images = PackedImages.open(workspace.preprocessed)
    features = Features.read_in(workspace)
    labels = images.labels[images.indices(split)].astype(np.int32)
    name = f"{split}.npy" if features.boundary == POOLED else f"{split}-pooled.npy"
    return _cached(workspace, features, split, labels, name)


def _cached(
    workspace: Workspace, features: Features, split: Split, labels: NDArray[np.int32], name: str
) -> Examples:
    stored = ArrayReader(workspace.features / name)
    if features.views == 1 or split != "train":
        return Examples(labels, stored.read, stored.array[0].nbytes)
    first, *further = (_view_reader(stored, view) for view in range(features.views))
    return Examples(labels, first, stored.array[0, 0].nbytes, further_views=tuple(further))


def _view_reader(stored: ArrayReader, view: int) -> Reader:
    return lambda positions: stored.read(positions, view)


def _mixed_reader(images: PackedImages, indices: NDArray[np.int64], size_px: int) -> Reader:
    """Images of different sizes, brought to one by the network's own preparation."""
    from graftline.core.backbones import PIXELS
    from graftline.network.classifier import build_preparation

    preparation = build_preparation(size_px, PIXELS)
    kept: dict[int, NDArray[np.uint8]] = {}

    def resized(chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        found = np.empty((len(chosen), size_px, size_px, 3), np.uint8)
        for places, batch in images.batches(chosen, 64):
            found[places] = np.rint(np.asarray(preparation(batch)))
        return found

    def read(positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        chosen = indices[positions]
        prepared = np.empty((len(chosen), size_px, size_px, 3), np.uint8)
        # What has the network's size stays as it is; of one grey channel all three are the same.
        fitting = (images.shapes[chosen, :2] == size_px).all(axis=1)
        for channels in (1, 3):
            rows = np.flatnonzero(fitting & (images.shapes[chosen, 2] == channels))
            if len(rows):
                prepared[rows] = images.batch(chosen[rows])
        # A call for the few images of each other size takes as long as one for many.
        rest = np.flatnonzero(~fitting)
        missing = [row for row in rest.tolist() if int(chosen[row]) not in kept]
        if missing:
            prepared[missing] = resized(chosen[missing])
        for row in rest.tolist():
            if (image := kept.get(int(chosen[row]))) is not None:
                prepared[row] = image
        room = _KEPT_BYTES // prepared[0].nbytes - len(kept)
        kept.update((int(chosen[row]), prepared[row].copy()) for row in missing[: max(0, room)])
        return prepared

    return read
