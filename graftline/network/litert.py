"""Inference with LiteRT on all cores: one single-threaded interpreter per core.

Interpreters of one thread each, side by side, give at least the images per second of one with
several threads, and batches are so small that they stay in the cache: the larger the network's
maps, the fewer images (``python -m benchmarks.interpreters``). The outputs are the same bit for bit
whatever the size of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.compute.cores import available_cores
from graftline.core.checksums import verify
from graftline.core.errors import unusable_output

_MICRO_BATCH = 8
_CACHE_BYTES = 7 << 20
"""What the largest map of a small batch may take: beyond it, larger batches are slower."""
_UNDER_WAY = 2


class LiteRunner:
    """Runs one LiteRT file on batches of images.

    Args:
        path: The ``.tflite`` file; its input is uint8 (n, height, width, channels), all dynamic.
        workers: Interpreters side by side; by default one per core.

    Attributes:
        output_dims: The last dimension of each of its outputs.

    Raises:
        DamagedFileError: If its folder lists another checksum for it.
        MissingOutputError: If the file is absent or no LiteRT model.
    """

    def __init__(self, path: Path, workers: int | None = None) -> None:
        verify(path)
        self._workers = workers or available_cores()
        self._idle: SimpleQueue[_Interpreter] = SimpleQueue()
        for _ in range(self._workers):
            interpreter = _Interpreter(path)
            self._batch = interpreter.batch
            self.output_dims = interpreter.output_dims
            self._idle.put(interpreter)
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="litert")

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Runs the model.

        Args:
            images: uint8 (n, height, width, channels); n may be any number from 1.

        Returns:
            float32 (n, ...): the first output for each image, in order.
        """
        return self.run_outputs(images, 1)[0]

    def run_outputs(self, images: NDArray[np.uint8], count: int) -> list[NDArray[np.float32]]:
        """Runs the model and gives several of its outputs.

        Args:
            images: uint8 (n, height, width, channels); n may be any number from 1.
            count: How many of the outputs, from the first on.

        Returns:
            float32 (n, ...) for each output: one row per image, in order.
        """
        pieces = [images[at : at + self._batch] for at in range(0, len(images), self._batch)]
        ran = self._pool.map(lambda piece: self._run_piece(piece, count), pieces)
        return [np.concatenate(output) for output in zip(*ran, strict=True)]

    def run_all(
        self, batches: Iterator[NDArray[np.uint8]], ahead: int = 2
    ) -> Iterator[NDArray[np.float32]]:
        """Runs the model on each batch, reading ``ahead`` batches while it computes.

        Memory stays bounded: no more than ``ahead`` + 1 batches are held at once.
        """
        # Two under way, so that no interpreter waits for the others at the end of each batch.
        with ThreadPoolExecutor(_UNDER_WAY, thread_name_prefix="litert-feed") as feeder:
            waiting = [feeder.submit(self.run, batch) for batch in _first(batches, ahead)]
            while waiting:
                done = waiting.pop(0)
                for batch in _first(batches, 1):
                    waiting.append(feeder.submit(self.run, batch))
                yield done.result()

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()

    def __enter__(self) -> LiteRunner:
        """Nothing to open: the interpreters stand since the start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the threads."""
        self.close()

    def _run_piece(self, piece: NDArray[np.uint8], outputs: int) -> list[NDArray[np.float32]]:
        interpreter = self._idle.get()
        try:
            return interpreter.run(piece, outputs)
        finally:
            self._idle.put(interpreter)


class _Interpreter:
    """One interpreter, whose input keeps its shape from batch to batch as long as it can."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter: Any = Interpreter(str(path), num_threads=1)
        except (ValueError, RuntimeError, OSError) as error:
            raise unusable_output(path, "is absent or no LiteRT model") from error
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._shape: tuple[int, ...] = ()
        details = self._outputs()
        self.output_dims = tuple(int(detail["shape_signature"][-1]) for detail in details)
        self.batch = batch_within(_CACHE_BYTES, self._largest_map_bytes())

    def run(self, images: NDArray[np.uint8], outputs: int) -> list[NDArray[np.float32]]:
        count = len(images)
        shape = (self.batch, *images.shape[1:])
        if self._shape != shape:
            self._interpreter.resize_tensor_input(self._input, shape)
            self._interpreter.allocate_tensors()
            self._shape = shape
        if count < self.batch:
            # A new input size would cost a new allocation; blank images are cheaper.
            padded = np.zeros(shape, dtype=np.uint8)
            padded[:count] = images
            images = padded
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(images))
        self._interpreter.invoke()
        # With a dynamic batch the outputs' places are known only after the run.
        details = self._outputs()[:outputs]
        return [self._interpreter.get_tensor(detail["index"])[:count] for detail in details]

    def _outputs(self) -> list[Any]:
        # The converter may list them in another order than the function's, which the names tell.
        return sorted(self._interpreter.get_output_details(), key=lambda detail: detail["name"])

    def _largest_map_bytes(self) -> int:
        """Of one image; weights are no maps, and have no open batch."""
        shapes = [
            detail["shape"]
            for detail in self._interpreter.get_tensor_details()
            if len(detail["shape_signature"]) and detail["shape_signature"][0] == -1
        ]
        return max((4 * int(np.prod(np.abs(shape))) for shape in shapes), default=0)


def batch_within(cache_bytes: int, map_bytes: int) -> int:
    """How many images are run at once.

    Args:
        cache_bytes: What the largest map of all of them may take.
        map_bytes: What it takes for one image.

    Returns:
        From 1 to 8.
    """
    return max(1, min(_MICRO_BATCH, cache_bytes // max(map_bytes, 1)))


def _first(batches: Iterator[NDArray[np.uint8]], count: int) -> Iterator[NDArray[np.uint8]]:
    for _ in range(count):
        batch = next(batches, None)
        if batch is None:
            return
        yield batch
