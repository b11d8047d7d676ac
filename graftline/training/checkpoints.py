"""Where training stands, on disk: after a kill it goes on as if nothing had happened."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.files import replacing_file

_FORMAT = 4
"""Of the file; one that another version of the code wrote is not taken up."""
_RECORD = "record"
_LOSSES = "losses_"
_DIGEST_BYTES = 32
_COST_SHARE = 0.05
"""Of the time, that checkpoints may take."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainState:
    """A moment between two chunks of batches.

    Args:
        phase: The phase's name.
        epoch: Counted from 1 through all phases.
        chunks: Chunks of that epoch that are done.
        sums: Loss, right answers and examples so far in that epoch.
        history: The rows of the epochs that are done.
        best_epoch: The one whose weights are to be kept; 0 before the first.
        best_tempered: The temperature that suits their answers, and the validation loss at it.
        lowest_epochs: The one with the lowest validation loss, of each phase so far.
        stopped: Whether the phase has ended early.
        values: Of every variable that training moves; arrays, or tensors on their device.
        best_values: Of the weights to be kept, after the best epoch; likewise.
        lowest_losses: Tempered, of each validation example after these epochs, by phase.
    """

    phase: str
    epoch: int
    chunks: int = 0
    sums: tuple[float, int, int] = (0.0, 0, 0)
    history: tuple[dict[str, float], ...] = ()
    best_epoch: int = 0
    best_tempered: tuple[float, float] = (1.0, 0.0)
    lowest_epochs: tuple[int, ...] = ()
    stopped: bool = False
    values: Sequence[Any] = field(default=(), repr=False)
    best_values: Sequence[Any] = field(default=(), repr=False)
    lowest_losses: Sequence[NDArray[np.float64]] = field(default=(), repr=False)


class Checkpoints:
    """One file that holds the newest standing, whole or as it was before.

    Args:
        path: The file.
        key: What training depends on; a file of another key is nobody's.
        every_s: Seconds between two savings, at least: a large network's are farther apart, so that
            they take no more than a share of the time.
    """

    def __init__(self, path: Path, key: str, every_s: float = 15.0) -> None:
        self.path, self._key, self._every_s = path, f"{_FORMAT} {key}", every_s
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._saved_at, self._cost_s = time.monotonic(), 0.0

    def due(self) -> bool:
        """Whether so long has passed that a kill would cost too much.

        Raises:
            StorageFullError: If the disk was full at the last saving.
        """
        if self._writing is not None:
            if not self._writing.done():
                return False
            self._settle()
        return time.monotonic() - self._saved_at >= max(self._every_s, self._cost_s / _COST_SHARE)

    def save(self, standing: TrainState, *, aside: bool = False) -> None:
        """Writes a standing in one move.

        Args:
            standing: Its arrays, which may lie on a device, do not change any more.
            aside: Whether to come back at once, and write meanwhile.

        Raises:
            StorageFullError: If the disk is full; of one that is written aside, at the next call.
        """
        self._settle()
        self._writing = self._writer.submit(self._write, standing)
        if not aside:
            self._settle()

    def _settle(self) -> None:
        """Waits for what is being written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, standing: TrainState) -> None:
        began = time.monotonic()
        record = {name: getattr(standing, name) for name in _PLAIN} | {"key": self._key}
        arrays = {f"value_{n}": np.asarray(value) for n, value in enumerate(standing.values)}
        arrays |= {f"best_{n}": np.asarray(value) for n, value in enumerate(standing.best_values)}
        arrays |= {f"{_LOSSES}{n}": value for n, value in enumerate(standing.lowest_losses)}
        text = np.frombuffer(json.dumps(record).encode(), np.uint8)
        keep_arrays(self.path, {_RECORD: text, **arrays})
        self._saved_at = time.monotonic()
        self._cost_s = self._saved_at - began

    def load(self) -> TrainState | None:
        """The newest standing of this key, if there is one that is whole."""
        arrays = kept_arrays(self.path)
        if arrays is None:
            return None
        record = json.loads(arrays[_RECORD].tobytes())
        if record.pop("key") != self._key:
            return None
        values, best_values = _numbered(arrays, "value_"), _numbered(arrays, "best_")
        losses = _numbered(arrays, _LOSSES)
        for name in ("sums", "history", "best_tempered", "lowest_epochs"):
            record[name] = tuple(record[name])
        return TrainState(**record, values=values, best_values=best_values, lowest_losses=losses)

    def remove(self) -> None:
        """Takes the file away, once the outputs are in their places."""
        self._settle()
        self.path.unlink(missing_ok=True)


class Followed:
    """The checkpoints of the one who leads a group, for the others: read, and never written."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints

    def due(self) -> bool:
        """Never."""
        return False

    def save(self, standing: TrainState, *, aside: bool = False) -> None:
        """Does nothing: who leads keeps it."""

    def load(self) -> TrainState | None:
        """See :meth:`Checkpoints.load`."""
        return self._checkpoints.load()


_PLAIN = (
    "phase",
    "epoch",
    "chunks",
    "sums",
    "history",
    "best_epoch",
    "best_tempered",
    "lowest_epochs",
    "stopped",
)


def keep_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays in one move, with the checksum of all before them.

    Raises:
        StorageFullError: If the disk is full.
    """
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        file.write(hashlib.sha256(content.getbuffer()).digest())
        file.write(content.getbuffer())


def kept_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """What :func:`keep_arrays` wrote; None if it is not there, or not whole any more."""
    try:
        stored = memoryview(path.read_bytes())
    except OSError:
        return None
    digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        _LOG.warning("%s is damaged, and what it held is made anew; have a look at the disk", path)
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file)


def _numbered(arrays: Mapping[str, NDArray[Any]], prefix: str) -> list[NDArray[Any]]:
    count = sum(name.startswith(prefix) for name in arrays)
    return [arrays[f"{prefix}{number}"] for number in range(count)]
