"""Small batches on all cores: sessions of one thread each, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from graftline.network.runners.runner import Runner

_MICRO_BATCH = 8
_CACHE_BYTES = 7 << 20
"""What the largest map of a small batch may take: beyond it, larger batches are slower."""


class Session(Protocol):
    """What computes one small batch after the other, on one thread."""

    def run(self, images: NDArray[np.uint8], outputs: int) -> list[NDArray[np.float32]]:
        """From at most a small batch of images to the first so many outputs."""


class PieceRunner(Runner):
    """Runs batches in pieces, each on a session that is idle.

    Args:
        sessions: As many as are to compute side by side.
        piece_images: Images of a small batch.
        output_dims: The last dimension of each output.
        name: Of the threads.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        piece_images: int,
        output_dims: tuple[int, ...],
        name: str,
    ) -> None:
        self._piece, self.output_dims = piece_images, output_dims
        self._idle: SimpleQueue[Session] = SimpleQueue()
        for session in sessions:
            self._idle.put(session)
        self._pool = ThreadPoolExecutor(len(sessions), thread_name_prefix=name)

    def run_outputs(self, images: NDArray[np.uint8], count: int) -> list[NDArray[np.float32]]:
        """See :meth:`graftline.network.runners.runner.Runner.run_outputs`."""
        pieces = [images[at : at + self._piece] for at in range(0, len(images), self._piece)]
        ran = self._pool.map(lambda piece: self._run_piece(piece, count), pieces)
        return [np.concatenate(output) for output in zip(*ran, strict=True)]

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()

    def _run_piece(self, piece: NDArray[np.uint8], outputs: int) -> list[NDArray[np.float32]]:
        session = self._idle.get()
        try:
            return session.run(piece, outputs)
        finally:
            self._idle.put(session)


def piece_images(map_bytes: int) -> int:
    """How many images are run at once: from 1 to 8.

    Args:
        map_bytes: What the largest map of one image takes.
    """
    return max(1, min(_MICRO_BATCH, _CACHE_BYTES // max(map_bytes, 1)))


def filled(images: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Images with blank ones behind them: a new input size would cost a new allocation."""
    if len(images) == count:
        return images
    padded = np.zeros((count, *images.shape[1:]), dtype=np.uint8)
    padded[: len(images)] = images
    return padded
