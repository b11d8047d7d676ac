"""Errors say what, where, what is allowed and what to do, also across processes."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from graftline.core import errors
from graftline.core.errors import (
    GraftlineError,
    NotWritableError,
    StageFailedError,
    StorageFullError,
    UserError,
    WorkerLostError,
    error_from_json,
    from_system,
)

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, GraftlineError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_to_another_process(kind: type[GraftlineError]) -> None:
    error = kind("it broke", where="here", allowed="this", fix="do that")
    copy = error_from_json(error.to_json())
    assert type(copy) is kind
    assert str(copy) == str(error)
    # A group of processes is started again by this code, before anybody else sees it.
    expected = 4 if kind is WorkerLostError else 2 if issubclass(kind, UserError) else 1
    assert copy.exit_code == expected


def test_the_text_has_a_line_for_each_part() -> None:
    text = str(UserError("it broke", where="row 3", fix="mend it"))
    assert text.splitlines() == ["it broke", "  where:   row 3", "  do:      mend it"]


def test_an_unknown_kind_becomes_a_failed_stage() -> None:
    text = GraftlineError("it broke").to_json().replace("GraftlineError", "Other")
    assert isinstance(error_from_json(text), StageFailedError)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a"), StorageFullError),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a"), StorageFullError),
        # As HDF5, TensorFlow and SQLite put it.
        (OSError("Can't write data (errno = 28, 'No space left on device')"), StorageFullError),
        (RuntimeError("b.index; No space left on device"), StorageFullError),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), StorageFullError),
        (OSError(errno.EROFS, "Read-only file system", "a"), NotWritableError),
        (PermissionError(errno.EACCES, "Permission denied", "a"), NotWritableError),
    ],
)
def test_what_the_system_refuses_is_for_the_user_to_mend(
    error: Exception, kind: type[GraftlineError], tmp_path: Path
) -> None:
    found = from_system(error, tmp_path)
    assert type(found) is kind
    assert found.exit_code == 2
    assert found.where == ("a" if getattr(error, "filename", None) else str(tmp_path))
    assert found.fix


@pytest.mark.parametrize("error", [ValueError("odd"), FileNotFoundError(errno.ENOENT, "gone", "a")])
def test_anything_else_is_not(error: Exception, tmp_path: Path) -> None:
    assert from_system(error, tmp_path) is None
