"""What is done chunk by chunk, wherever it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from graftline.compute.parts import Arrays

Chunk = TypeVar("Chunk")
_Given = TypeVar("_Given", contravariant=True)


class Work(Protocol[_Given]):
    """Work that can be sent to another process: its fields are small, such as paths and numbers.

    Implement it as a frozen dataclass.
    """

    def opened(self) -> AbstractContextManager[Callable[[_Given], Arrays]]:
        """Opens what every chunk needs, such as a model, once in each process.

        Returns:
            Gives the function from a chunk to its arrays. Threads call it at the same time.
        """
