"""What every runner of a network can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

UNDER_WAY = 2
"""Batches that a runner is given at once."""
_VALUE_BYTES = 4


class Runner(ABC):
    """A network, or a part of one, that is open and answers images.

    Attributes:
        title: What it is called.
        output_dims: The last dimension of each of its outputs.
        most_images: How many images it is best given at once, at most.
        most_bytes: What their outputs may take, at most.
    """

    title: str
    output_dims: tuple[int, ...]
    most_images = 256
    most_bytes = 32 << 20

    @abstractmethod
    def run_outputs(self, images: NDArray[np.uint8], count: int) -> list[NDArray[np.float32]]:
        """Runs the model and gives several of its outputs.

        Args:
            images: uint8 (n, height, width, channels); n may be any number from 1.
            count: How many of the outputs, from the first on.

        Returns:
            float32 (n, ...) for each output: one row per image, in order.
        """

    @abstractmethod
    def close(self) -> None:
        """Gives back what it holds."""

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Runs the model.

        Args:
            images: uint8 (n, height, width, channels); n may be any number from 1.

        Returns:
            float32 (n, ...): the first output for each image, in order.
        """
        return self.run_outputs(images, 1)[0]

    def run_all(
        self, batches: Iterator[NDArray[np.uint8]], ahead: int = 2
    ) -> Iterator[NDArray[np.float32]]:
        """Runs the model on each batch, reading ``ahead`` batches while it computes.

        Memory stays bounded: no more than ``ahead`` + 1 batches are held at once.
        """
        # Two under way: no interpreter waits for the others at the end of each batch, and a GPU
        # computes one while the other is copied.
        with ThreadPoolExecutor(UNDER_WAY, thread_name_prefix="runner-feed") as feeder:
            waiting = [feeder.submit(self.run, batch) for batch in _first(batches, ahead)]
            while waiting:
                done = waiting.pop(0)
                for batch in _first(batches, 1):
                    waiting.append(feeder.submit(self.run, batch))
                yield done.result()

    def batch_size(self, values: int) -> int:
        """As many images as keep a batch's outputs in bounds, in whole micro-batches of 8.

        Args:
            values: Of one image's outputs.
        """
        fitting = self.most_bytes // (values * _VALUE_BYTES)
        return int(np.clip(fitting // 8 * 8, 8, self.most_images))

    def __enter__(self) -> Runner:
        """Nothing to open: it stands since its making."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()


def _first(batches: Iterator[NDArray[np.uint8]], count: int) -> Iterator[NDArray[np.uint8]]:
    for _ in range(count):
        batch = next(batches, None)
        if batch is None:
            return
        yield batch
