"""Printing where the disk is full: a log's lines are left out, an answer is an error.

``make run > log`` and ``graftline serve 2> log`` may have their log on a full disk while all else
has room. A training is not to end for that, nor a service.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

from graftline.core.errors import FULL_DISK

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined]

_NAMES = {"stdout": "standard output", "stderr": "standard error"}


def outlive_full_disk(*, answers: bool) -> None:
    """Has standard output and standard error outlive a full disk.

    Args:
        answers: Whether standard output is what the command was asked for, as a table of
            predictions. Then the error of a full disk names it; else what does not fit is left
            out. Standard error is never worth an end.
    """
    for name in _NAMES:
        stream = getattr(sys, name)
        # A program that has put something else there, as a notebook does, reads it elsewhere.
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            stream.flush()
            setattr(sys, name, _wrapped(stream, name, needed=answers and name == "stdout"))


def lost() -> list[str]:
    """The streams of which something was left out."""
    return [
        title
        for name, title in _NAMES.items()
        if isinstance(raw := _raw(getattr(sys, name)), _Raw) and raw.lost
    ]


class _Raw(io.FileIO):
    def __init__(self, number: int, title: str, *, needed: bool) -> None:
        super().__init__(number, "wb", closefd=False)
        self._title, self._needed = title, needed
        self.lost = False

    def write(self, data: Buffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            if self._needed:
                raise OSError(error.errno, error.strerror, self._title) from error
            self.lost = True
            return memoryview(data).nbytes


def _wrapped(stream: io.TextIOWrapper, name: str, *, needed: bool) -> io.TextIOWrapper:
    raw = _Raw(stream.fileno(), _NAMES[name], needed=needed)
    return io.TextIOWrapper(
        # As Python itself has it with -u.
        raw if stream.write_through else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _raw(stream: object) -> object:
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)
