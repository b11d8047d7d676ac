"""A map over threads that keeps the order and bounds what is under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from graftline.compute.cores import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Iterator[Result]:
    """Yields ``function(item)`` for each item, in order; see :func:`paired_map`."""
    for _, result in paired_map(function, items, workers):
        yield result


def paired_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Iterator[tuple[Item, Result]]:
    """Yields each item with ``function(item)``, in order, computed on threads.

    At most twice as many items as there are threads are under way or waiting to be taken, so
    memory does not grow with the number of items. An error has a note that says which item it was.

    Args:
        function: Called by several threads at once.
        items: Read by the caller's thread.
        workers: How many threads; by default one per core.
    """
    workers = workers or available_cores()
    pending: deque[tuple[Item, Future[Result]]] = deque()
    taken = 0

    def first() -> tuple[Item, Result]:
        nonlocal taken
        taken += 1
        item, future = pending.popleft()
        try:
            return item, future.result()
        except Exception as error:
            error.add_note(f"at chunk {taken}")
            raise

    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append((item, pool.submit(function, item)))
                if len(pending) >= 2 * workers:
                    yield first()
            while pending:
                yield first()
        finally:
            for _, future in pending:
                future.cancel()
