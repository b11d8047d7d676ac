"""What training reads: cached features or images, in chunks of whole batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.artifacts import Features, Preprocessed, Split
from graftline.packed import PackedImages
from graftline.workspace import Workspace

_CHUNK_BYTES = 16 << 20
_MAX_STEPS = 64


@dataclass(frozen=True)
class Examples:
    """One split's examples, read piece by piece so that memory stays bounded.

    Args:
        labels: int32 (n,).
        read: From positions in the split to examples (len(positions), ...).
        example_bytes: The size of one example, bytes.
    """

    labels: NDArray[np.int32]
    read: Callable[[NDArray[np.int64]], NDArray[Any]]
    example_bytes: int

    def __len__(self) -> int:
        return len(self.labels)

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
                yield (
                    examples.reshape(-1, batch, *examples.shape[1:]),
                    labels.reshape(-1, batch),
                )


def read_examples(workspace: Workspace, split: Split) -> Examples:
    """The examples of one split: cached features where there are any, else images."""
    images = PackedImages.open(workspace.preprocessed)
    features = Features.read(workspace.features / "features.json")
    indices = images.indices(split)
    labels = images.labels[indices].astype(np.int32)
    if features.boundary is not None:
        cached = np.load(workspace.features / f"{split}.npy", mmap_mode="r", allow_pickle=False)
        return Examples(labels, lambda positions: cached[positions], cached[0].nbytes)
    if images.uniform_shape is not None:
        return Examples(
            labels,
            lambda positions: images.batch(indices[positions]),
            int(np.prod(images.uniform_shape)),
        )
    size_px = Preprocessed.read(workspace.preprocessed / "preprocessed.json").size_px
    return Examples(labels, _mixed_reader(images, indices, size_px), size_px * size_px * 3)


def _mixed_reader(
    images: PackedImages, indices: NDArray[np.int64], size_px: int
) -> Callable[[NDArray[np.int64]], NDArray[np.uint8]]:
    """Images of different sizes, brought to one by the network's own preparation."""
    from graftline.graft import build_preparation

    preparation = build_preparation(size_px)

    def read(positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        prepared = np.empty((len(positions), size_px, size_px, 3), np.uint8)
        for places, batch in images.batches(indices[positions], 64):
            scaled = np.asarray(preparation(batch))  # [-1, 1]
            prepared[places] = np.rint((scaled + 1) * 127.5)
        return prepared

    return read
