"""Outputs of a frozen part for the raced images and their changed views, computed once each.

They lie in a file, as those of ``extract`` do, so that their number does not decide how much memory
a race takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from graftline.data.decoding import Pixels
from graftline.data.npy import ArrayReader, ArrayWriter, narrowed
from graftline.data.shards import PackedImages
from graftline.network.runners.choosing import Computing
from graftline.selection.features import outputs_by_batch
from graftline.training.datasets import Examples, Reader

ViewOf = Callable[[Pixels, NDArray[np.int64], int], Pixels]
"""From images, their places among the raced ones and a view's number to that view of them."""


class FrozenOutputs:
    """Outputs at one layer for the images asked for so far.

    Args:
        model: The frozen part, as a file of ``computing``, in a folder that holds nothing else.
        computing: What runs it.
        images: The preprocessed images.
        raced: Positions in their manifest of all that may be asked for, (n,).
        row_shape: Of one image's outputs.
        dtype: Of the outputs as they are kept.
        views: Views of each image, the unchanged one counted.
        view_of: Makes them; needed for more than one.
    """

    def __init__(
        self,
        model: Path,
        computing: Computing,
        images: PackedImages,
        raced: NDArray[np.int64],
        row_shape: tuple[int, ...],
        dtype: DTypeLike,
        views: int = 1,
        view_of: ViewOf | None = None,
    ) -> None:
        self._model, self._images, self._view_of, self._count = model, images, view_of, len(raced)
        self._computing = computing
        self._place_of = np.full(int(raced.max()) + 1, -1, np.int64)
        self._place_of[raced] = np.arange(len(raced))
        self._dtype, self._row_shape = np.dtype(dtype), row_shape
        self._known = np.zeros((views, len(raced)), bool)
        path = model.with_suffix(".npy")
        self._writer = ArrayWriter(path, dtype, (views * len(raced),), row_shape)
        self._writer.flush()
        self._reader = ArrayReader(path)

    @property
    def nbytes(self) -> int:
        """What the outputs of all images and views take on the disk."""
        return self._known.size * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        return math.prod(self._row_shape) * self._dtype.itemsize

    def examples(
        self, positions: NDArray[np.int64], views: int = 1, needed: Sequence[int] = (0,)
    ) -> Examples:
        """Images as examples.

        Args:
            positions: Of the images, in the preprocessed manifest, (n,).
            views: How many there are of each.
            needed: Those that will be read; no others are computed.
        """
        places = self._place_of[positions]
        for view in needed:
            self._complete(positions, places, view)
        first, *further = (self._reader_of(places, view) for view in range(views))
        labels = self._images.labels[positions].astype(np.int32)
        return Examples(labels, first, self._row_bytes, further_views=tuple(further))

    def close(self) -> None:
        """Takes the files away; the disk is free again once no examples are left that read them."""
        self._writer.__exit__()
        del self._reader
        for path in (self._model, self._model.with_suffix(".npy")):
            path.unlink(missing_ok=True)

    def _reader_of(self, places: NDArray[np.int64], view: int) -> Reader:
        # Not through self: once closed, it lets the file go.
        reader, first = self._reader, view * self._count
        return lambda chosen: reader.read(first + places[chosen])

    def _complete(self, positions: NDArray[np.int64], places: NDArray[np.int64], view: int) -> None:
        missing = np.flatnonzero(~self._known[view, places])
        if not len(missing):
            return
        wanted, view_of = places[missing], self._view_of

        def changed(images: Pixels, rows: NDArray[np.int64]) -> Pixels:
            return images if view_of is None else view_of(images, wanted[rows], view)

        with self._computing.open(self._model) as runner:
            batch_size = runner.batch_size(math.prod(self._row_shape))
            for rows, outputs in outputs_by_batch(
                runner, self._images, positions[missing], batch_size, changed
            ):
                at = view * self._count + wanted[rows]
                self._writer.put(at, narrowed(outputs, self._dtype))
        self._writer.flush()
        self._known[view, places] = True
