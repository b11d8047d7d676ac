"""``map_chunks``: one function over many chunks, on threads of this process or on a cluster.

Whatever the engine and the number of workers, the same arrays come out in the same order. So a step
may depend on the chunks that it makes, and never on who works on them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from graftline.compute.cores import available_cores, using_workers
from graftline.compute.parallel import paired_map
from graftline.compute.work import Arrays, Chunk, Work
from graftline.core.params.compute import ComputeParams

if TYPE_CHECKING:
    from graftline.compute.cluster import Cluster

PARTS = Path("var") / "parts"


@dataclass
class Session:
    """On what one step works.

    Args:
        root: The project's folder.
        params: The engine, its address, how many workers.
        step: The step's name.
        key: What its results depend on: parts that were written for another key are no use. None
            if that is not known.
    """

    root: Path
    params: ComputeParams
    step: str
    key: str | None = None
    _cluster: Cluster | None = field(default=None, repr=False)

    @property
    def parts(self) -> Path:
        """Where the parts of this step's chunks lie."""
        return self.root / PARTS / self.step

    def cluster(self) -> Cluster:
        """The workers; they are called at the first time."""
        if self._cluster is None:
            from graftline.compute.cluster import Cluster

            self._take_up_parts()
            self._cluster = Cluster(self.root, self.params, self.step)
        return self._cluster

    def end(self, *, well: bool) -> None:
        """Lets the workers go; where all went well, their parts go too."""
        if self._cluster is not None:
            self._cluster.close()
        if well:
            shutil.rmtree(self.parts, ignore_errors=True)

    def _take_up_parts(self) -> None:
        file = self.parts / "key"
        known = file.read_text(encoding="utf-8") if file.is_file() else None
        if self.key is None or known != self.key:
            shutil.rmtree(self.parts, ignore_errors=True)
        self.parts.mkdir(parents=True, exist_ok=True)
        if self.key is not None:
            file.write_text(self.key, encoding="utf-8")


_sessions: list[Session] = []


@contextmanager
def working_on(
    root: Path, params: ComputeParams, step: str, key: str | None = None
) -> Iterator[None]:
    """Has what the block maps over chunks run as ``compute`` says; see :class:`Session`."""
    session = Session(root, params, step, key)
    _sessions.append(session)
    well = False
    try:
        # With dask they are processes of their own.
        with using_workers(params.workers if params.engine == "local" else None):
            yield
        well = True
    finally:
        _sessions.pop()
        session.end(well=well)


def map_chunks(
    name: str,
    work: Work[Chunk],
    chunks: Iterable[Chunk],
    *,
    here: Callable[[Chunk], Arrays] | None = None,
    at_once: int | None = None,
    keep: bool = True,
    resources: Mapping[str, float] | None = None,
) -> Iterator[tuple[Chunk, Arrays]]:
    """Yields each chunk with what the work makes of it, in order.

    No more chunks are under way than twice the workers, so memory does not grow with their number.

    Args:
        name: Of this map, within its step; a part of a file's name.
        work: Opened once by each process that works.
        chunks: The same ones at each start, whatever works on them; small, such as positions.
        here: The function that ``work`` opens, where this process has all that it needs open
            already; only threads of this process call it.
        at_once: On threads: how many chunks are worked on at once; by default one per core. With 1
            the caller's own thread does them, each when it is asked for.
        keep: Whether a cluster's workers write the arrays to files. Without, they are sent, so they
            have to be small.
        resources: What a worker of a cluster must offer for it, such as ``{"GPU": 1}``. Without a
            scheduler of the user's own it is then done in this process.

    Raises:
        ClusterError: If the cluster cannot be used, or is lost.
        Exception: Whatever the work raises, with a note on the chunk.
    """
    session = _sessions[-1] if _sessions else None
    # Workers that a step starts are on its own machine, and would all be at the same GPU.
    alone = bool(resources) and session is not None and session.params.address is None
    if session is not None and session.params.engine == "dask" and not alone:
        folder = session.parts / name if keep else None
        cluster = session.cluster()
        yield from cluster.map(name, work, chunks, folder, dict(resources or {}))
        return
    with work.opened() if here is None else nullcontext(here) as function:
        if at_once == 1:
            yield from ((chunk, function(chunk)) for chunk in chunks)
        else:
            yield from paired_map(function, chunks, at_once or available_cores())
