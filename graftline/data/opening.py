"""Files of a data source, opened without trust: a regular file, inside the source, and no other.

A process that looks at a path first and opens it later may find a link, a pipe or a device there
that was none before. So the questions are asked of the open file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from graftline.core.errors import DataError

FilePath = str | os.PathLike[str]
_NO_NAME = "bears a name that no file has"


def open_file(path: FilePath, within: FilePath | None = None) -> int:
    """Opens a file for reading.

    Args:
        path: The file.
        within: The folder, links followed, that the file must lie in once it is open; None for one
            that the user named.

    Returns:
        The open file's number; closing it is the caller's.

    Raises:
        DataError: If it is a folder, a device or a pipe, or lies elsewhere; its ``what`` can follow
            a file's name.
        OSError: If it cannot be opened.
    """
    # O_NONBLOCK: opening a pipe must not wait for a writer.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        raise DataError(_NO_NAME) from error
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise DataError("is a folder")
        if not stat.S_ISREG(mode):
            raise DataError("is no regular file")
        if within is not None and not _lies_in(handle, os.fspath(within)):
            raise DataError("leads out of the source")
    except BaseException:
        os.close(handle)
        raise
    return handle


@contextmanager
def opened_file(path: FilePath, within: FilePath | None = None) -> Iterator[BinaryIO]:
    """As :func:`open_file`, for as long as the block lasts."""
    # With an opener, and not by its number, the file knows its name.
    try:
        file = open(path, "rb", opener=lambda _path, _flags: open_file(path, within))
    except ValueError as error:
        raise DataError(_NO_NAME) from error
    with file:
        yield file


@contextmanager
def opened_source(path: Path, within: Path | None = None) -> Iterator[BinaryIO]:
    """As :func:`opened_file`, for a file that is the source, or a part of it: the error names it.

    Raises:
        DataError: As :func:`opened_file`.
        OSError: As :func:`opened_file`.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(opened_file(path, within))
        except DataError as error:
            raise DataError(f"{path.name} {error.what}", where=str(path)) from error
        yield file


def _lies_in(handle: int, folder: str) -> bool:
    # Only Linux tells what was opened; elsewhere the look at the path has to do.
    try:
        opened = os.readlink(f"/proc/self/fd/{handle}")
    except OSError:
        return True
    return opened.startswith(os.path.join(folder, ""))
