"""Small disks of their own, to be filled; tests are skipped where mounting is not permitted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A disk in memory at a folder, which is made.

    Args:
        folder: Where.
        options: As mount takes them: ``size=64k``, ``size=1m,ro``, ``size=1m,noexec``.
    """
    import pytest

    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "graftline-small-disk", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def memory(needed_bytes: int) -> Path | None:
    """The folder that the system keeps in memory; None where it is absent, read-only or small.

    Containers have 64 MiB there, or less.
    """
    folder = Path("/dev/shm")
    if not os.access(folder, os.W_OK):
        return None
    free = os.statvfs(folder)
    return folder if free.f_bavail * free.f_frsize >= needed_bytes else None


@contextmanager
def filled(folder: Path, left_bytes: int = 0) -> Iterator[None]:
    """Fills the disk of a folder but for some bytes, and frees it again."""
    file = folder / "filler"
    free = os.statvfs(folder)
    count = max(free.f_bavail * free.f_frsize - left_bytes, 0)
    with file.open("wb") as opened:
        if count:
            os.posix_fallocate(opened.fileno(), 0, count)
    try:
        yield
    finally:
        file.unlink()
