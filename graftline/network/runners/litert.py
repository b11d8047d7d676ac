"""Inference with LiteRT on all cores: one single-threaded interpreter per core.

Interpreters of one thread each, side by side, give at least the images per second of one with
several threads, and batches are so small that they stay in the cache: the larger the network's
maps, the fewer images (``python -m benchmarks.interpreters``). The outputs are the same bit for bit
whatever the size of a batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.compute.cores import available_cores
from graftline.core.checksums import verify
from graftline.core.errors import unusable_output
from graftline.network.runners.pieces import PieceRunner, filled, piece_images


class LiteRunner(PieceRunner):
    """Runs one LiteRT file on batches of images.

    Args:
        path: The ``.tflite`` file; its input is uint8 (n, height, width, channels), all dynamic.
        workers: Interpreters side by side; by default one per core.

    Raises:
        DamagedFileError: If its folder lists another checksum for it.
        MissingOutputError: If the file is absent or no LiteRT model.
    """

    title = "LiteRT"

    def __init__(self, path: Path, workers: int | None = None) -> None:
        verify(path)
        sessions = [_Interpreter(path) for _ in range(workers or available_cores())]
        super().__init__(sessions, sessions[0].batch, sessions[0].output_dims, "litert")


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
        self.batch = piece_images(self._largest_map_bytes())

    def run(self, images: NDArray[np.uint8], outputs: int) -> list[NDArray[np.float32]]:
        count = len(images)
        shape = (self.batch, *images.shape[1:])
        if self._shape != shape:
            self._interpreter.resize_tensor_input(self._input, shape)
            self._interpreter.allocate_tensors()
            self._shape = shape
        images = filled(images, self.batch)
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
