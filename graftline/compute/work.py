"""What is done chunk by chunk, wherever it runs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from graftline.core.errors import ClusterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays: TypeAlias = "Mapping[str, NDArray[Any]]"
"""What a chunk comes to. NumPy is imported where it is needed: it reads the environment then."""
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


def resources_of(device: str) -> dict[str, float]:
    """What a worker of a cluster has to offer for work on a device (cpu or gpu)."""
    return {"GPU": 1} if device == "gpu" else {}


def refuse_unseen(paths: Iterable[Path]) -> None:
    """Sees to it that this process sees what the step's own process sees.

    Raises:
        ClusterError: If one of them is not there.
    """
    for path in paths:
        if not path.exists():
            raise ClusterError(
                f"a worker on {socket.gethostname()} does not see {path}",
                where=str(path),
                fix="put it into the project's folder or another one that all machines see under "
                "the same path",
            )
