"""Outputs that are there whole or not at all, and digests of files and records."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from graftline.core.checksums import seal
from graftline.core.errors import full_disk_reported
from graftline.core.process_identity import name_tag

SCRATCH_PREFIX = ".graftline.tmp-"
_CHUNK_BYTES = 1 << 20
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def replacing_file(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``target`` and moves it into place at the end.

    On any error the temporary file goes and ``target`` stays as it was. The new file is no wider
    open than the umask lets a new one be, nor than the one in whose place it comes.

    Raises:
        StorageFullError: If the disk is full.
    """
    with full_disk_reported(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(target, f".{target.name}.{name_tag()}-", ".tmp")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = _mode(temporary, target)
        try:
            yield temporary
            # Whatever has written it may have made it anew, with a mode of its own.
            os.chmod(temporary, mode)
            _sync(temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_directory(target: Path, *, sealed: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside ``target`` and swaps the two at the end.

    On Linux the swap is one system call (``renameat2`` with ``RENAME_EXCHANGE``), so a reader
    sees the old folder or the new one. On any error ``target`` stays as it was. The new folder is
    no wider open than the umask lets a new one be, nor than the one in whose place it comes.

    Args:
        target: The folder.
        sealed: Whether it lists its files' checksums; see :mod:`graftline.core.checksums`.

    Raises:
        StorageFullError: If the disk is full.
    """
    with full_disk_reported(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        temporary = _beside(target, f"{_prefix(target)}{name_tag()}-", "")
        temporary.mkdir()
        mode = _mode(temporary, target)
        try:
            yield temporary
            if sealed:
                seal(temporary)
            os.chmod(temporary, mode)
            for path in temporary.rglob("*"):
                if path.is_file():
                    _sync(path)
            _swap(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yields a folder for what is needed for a while, where the system keeps such things.

    It goes at the end; after a kill, the next start finds it by its name.
    """
    with tempfile.TemporaryDirectory(prefix=f"{SCRATCH_PREFIX}{name_tag()}-") as folder:
        yield Path(folder)


def write_text(target: Path, text: str) -> None:
    """Writes ``text`` to ``target`` in one move."""
    with replacing_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return sha256_stream(file)


def sha256_stream(file: IO[bytes]) -> str:
    """The SHA-256 of what there is to read, in hexadecimal, read in pieces."""
    digest = hashlib.sha256()
    while piece := file.read(_CHUNK_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def md5_file(path: Path) -> str:
    """The MD5 of a file's bytes, in hexadecimal, as Keras and DVC name files by it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def sha256_record(record: Any) -> str:
    """The SHA-256 of a JSON-able value, whatever the order of its keys."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _beside(target: Path, prefix: str, suffix: str) -> Path:
    return target.with_name(f"{prefix}{secrets.token_hex(4)}{suffix}")


def _mode(new: Path, target: Path) -> int:
    """The mode that the system gave what is new, without what the old one did not allow."""
    mode = stat.S_IMODE(new.stat().st_mode)
    try:
        old = stat.S_IMODE(target.stat().st_mode)
    except OSError:
        return mode
    # DVC takes the right to write from what it links to its cache; its owner keeps it here.
    return mode & (old | 0o700)


def _prefix(target: Path) -> str:
    return f".{target.name}.tmp-"


def _remove_leftovers(target: Path) -> None:
    # A killed process leaves its temporary folder; the stage lock makes sure that it is nobody's.
    for leftover in target.parent.glob(f"{_prefix(target)}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _swap(temporary: Path, target: Path) -> None:
    if not target.exists():
        os.rename(temporary, target)
        return
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.renameat2(
            _AT_FDCWD, os.fsencode(temporary), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE
        )
        if not failed:
            return
    # Elsewhere, and on file systems without the exchange, the target is absent for a moment.
    old = temporary.with_name(temporary.name + "-old")
    os.rename(target, old)
    os.rename(temporary, target)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
