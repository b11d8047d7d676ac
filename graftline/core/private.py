"""Files for their owner alone: ``var/``, and the login to the servers that are started here.

Everybody with an account on this machine can reach every server on 127.0.0.1, and Prefect's runs
what it is told to as the user who started it. So these servers answer only those who know a text,
kept in a file that nobody else may read.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from graftline.core.errors import ServerError
from graftline.core.workspace import Workspace

USER = "graftline"
"""The name in the login; the pages take any."""
_BYTES = 32
_FORM = re.compile(rf"{USER}:[\w-]{{43}}")
_OTHERS = 0o077


def keep_state_private(workspace: Workspace) -> None:
    """Has the folders of a checkout that are nobody else's closed to others, whatever the umask.

    They are ``var/`` and DVC's ``.dvc/tmp``. Outside of a checkout nothing is made.
    """
    if workspace.params_file.is_file() or workspace.var.is_dir():
        keep_private(workspace.var)
    if (dvc := workspace.root / ".dvc").is_dir():
        keep_private(dvc / "tmp")


def keep_private(folder: Path) -> None:
    """Has a folder there that nobody but its owner may look into, whatever the umask.

    One that cannot be made or changed (a checkout that is only read, a file system without modes, a
    folder of somebody else) stays as it is: the code that writes into it says what is wrong.
    """
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (mode := stat.S_IMODE(folder.stat().st_mode)) & _OTHERS:
            folder.chmod(mode & ~_OTHERS)


def login_file(workspace: Workspace) -> Path:
    """Where the login to this checkout's servers is kept until it is removed."""
    return workspace.var / "login"


def password_told(workspace: Workspace) -> str:
    """How to come by what the pages of the servers that are started here ask for."""
    return f"the pages ask for a password, with any name: cat {login_file(workspace)}"


def login(file: Path) -> str:
    """The login to the servers of one's own, ``graftline:`` and 43 signs; made at first use.

    Raises:
        ServerError: If others may read or have made the file, or it holds something else.
    """
    keep_private(file.parent)
    with FileLock(file.with_name(f"{file.name}.lock")):
        try:
            return _read(file)
        except FileNotFoundError:
            return _made(file)


def _made(file: Path) -> str:
    text = f"{USER}:{secrets.token_urlsafe(_BYTES)}"
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    handle = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as opened:
        # A umask may have taken more.
        os.fchmod(handle, 0o600)
        opened.write(f"{text}\n")
        opened.flush()
        os.fsync(handle)
    os.replace(new, file)
    return text


def _read(file: Path) -> str:
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unfit(file, f"cannot be read: {error.strerror}") from error
    with os.fdopen(handle, encoding="ascii", errors="replace") as opened:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (os.geteuid(), 0):
            raise _unfit(file, "belongs to another user, or is no regular file")
        if found.st_mode & _OTHERS:
            raise _unfit(file, "is open to others, who may have read it")
        text = opened.read(1000).strip()
    if not _FORM.fullmatch(text):
        raise _unfit(file, "does not hold a login")
    return text


def _unfit(file: Path, reason: str) -> ServerError:
    return ServerError(
        f"the file with the login to the servers {reason}",
        where=str(file),
        allowed=f"a file of this user with the mode 600, as Graftline makes it: {USER}: and 43 "
        "signs",
        fix=f"remove it (rm {file}), and a new one is made; then open the pages with that",
    )
