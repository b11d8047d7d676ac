"""What the files of a source were like when they were read: enough to tell later that they changed.

Who reads a file whole anyway, as ``load`` does, takes this down, so that nobody has to read it
again to know what it held.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

_FRESH_NS = 2_000_000_000
"""A file may change twice within one tick of a file system's clock, at most two seconds (FAT)."""
_STAMP, _DIGEST_BYTES = 3, 64
_CHUNK_BYTES = 1 << 20


class Stamp(NamedTuple):
    """What tells without reading that a file is the one that was read.

    Args:
        size: In bytes.
        changed_ns: The inode's own time of change, which a copying program cannot set back; -1
            where the file had changed so shortly before that it may change again unseen.
        inode: Its number.
    """

    size: int
    changed_ns: int
    inode: int


UNREAD = Stamp(0, -1, 0)
"""Of a file that could not be read: the next look tries again."""


def stamp_of(status: os.stat_result) -> Stamp:
    """Of a file, just before it is read."""
    fresh = status.st_ctime_ns > time.time_ns() - _FRESH_NS
    return Stamp(status.st_size, -1 if fresh else status.st_ctime_ns, status.st_ino)


def settle(changed_ns: int) -> None:
    """Waits until a file that changed then cannot change again without its stamp's telling.

    Args:
        changed_ns: The latest change of any file, since 1970. One in the future is one by a clock
            that goes wrong, and is not waited for.
    """
    wait_ns = changed_ns + _FRESH_NS - time.time_ns()
    if 0 < wait_ns <= _FRESH_NS:
        time.sleep(wait_ns / 1e9)


class SeenFiles:
    """What is taken down of the files of a source, one after the other, as columns."""

    def __init__(self) -> None:
        self._stamps = array("q")
        self._digests = bytearray()
        self._unread: dict[int, str] = {}

    def add(self, stamp: Sequence[int], digest: bytes, unread: str | None = None) -> None:
        """One more.

        Args:
            stamp: From before the reading, so that the next look sees what changes meanwhile.
            digest: The SHA-256 of the file's bytes in hexadecimal.
            unread: Why it could not be read, if it could not.
        """
        if unread is not None:
            self._unread[len(self)] = unread
        self._stamps.extend(stamp if unread is None else UNREAD)
        self._digests += (digest if unread is None else b"").ljust(_DIGEST_BYTES)

    def __len__(self) -> int:
        return len(self._digests) // _DIGEST_BYTES

    def __getitem__(self, position: int) -> tuple[Stamp, bytes, str | None]:
        """One, as :meth:`add` has taken it."""
        at, digest_at = position * _STAMP, position * _DIGEST_BYTES
        stamp = Stamp(*self._stamps[at : at + _STAMP])
        digest = bytes(self._digests[digest_at : digest_at + _DIGEST_BYTES])
        return stamp, digest, self._unread.get(position)

    def told(self, position: int) -> str:
        """The file's digest, or why it could not be read."""
        _, digest, unread = self[position]
        return digest.decode() if unread is None else unread

    @property
    def stamps(self) -> NDArray[np.int64]:
        """(n, 3)."""
        return np.frombuffer(self._stamps, np.int64).reshape(-1, _STAMP)

    @property
    def digests(self) -> NDArray[np.bytes_]:
        """(n,)."""
        return np.frombuffer(self._digests, f"S{_DIGEST_BYTES}")


class WholeFiles:
    """What is taken down of files that hold many images, such as archives, while they are read."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[Stamp, bytes]] = {}
        """Stamp and digest of each, by its path, as :meth:`SeenFiles.add` takes them."""

    @contextmanager
    def digesting(self, path: Path, file: BinaryIO) -> Iterator[BinaryIO]:
        """The same file, for as long as the block lasts; what is left unread is read at its end."""
        stamp, digested = stamp_of(os.fstat(file.fileno())), _Digested(file)
        yield cast(BinaryIO, digested)
        self.seen[str(path)] = stamp, digested.digest()


class _Digested(io.BufferedIOBase):
    """A file for reading that digests its bytes in their order, as far as they are read in it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._at = file, 0
        self._digest, self._digested = hashlib.sha256(), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = self._file.seek(offset, whence)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._file.read(-1 if size is None else size)
        # Of what a reader comes back to, the beginning is known; what it leaps over comes later.
        known = self._digested - self._at
        if 0 <= known < len(data):
            self._digest.update(memoryview(data)[known:])
            self._digested += len(data) - known
        self._at += len(data)
        return data

    def digest(self) -> bytes:
        """Of all its bytes, in hexadecimal."""
        self.seek(self._digested)
        while self.read(_CHUNK_BYTES):
            pass
        return self._digest.hexdigest().encode()
