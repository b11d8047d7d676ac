"""Work for tests, which other processes import too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from graftline.compute import Arrays


@dataclass(frozen=True)
class Squares:
    """Squares numbers, slowly if need be."""

    seconds: float = 0.0
    fails_at: int = -1

    @contextmanager
    def opened(self) -> Iterator[Callable[[list[int]], Arrays]]:
        def squared(chunk: list[int]) -> Arrays:
            if self.fails_at in chunk:
                raise ValueError(f"{self.fails_at} is not liked")
            time.sleep(self.seconds)
            return {"squares": np.array(chunk, np.int64) ** 2, "pid": np.array([os.getpid()])}

        yield squared
