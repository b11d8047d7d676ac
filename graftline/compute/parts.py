"""What a chunk of work came to, as arrays by name: in a file that a worker writes for the step.

A part appears whole under its name. So one that is there was finished, and a step that is started
again takes it up. Nothing in it can run code when it is read; each array has a checksum (CRC-32).
"""

from __future__ import annotations

import time
import zipfile
import zlib
from pathlib import Path

from graftline.compute.work import Arrays
from graftline.core.errors import ClusterError, DamagedFileError
from graftline.core.files import replacing_file

_LATE_S = 60.0
"""A shared folder may show a file of another machine a little later."""
_POLL_S = 0.1


def part_file(folder: Path, number: int) -> Path:
    """Where the part of one chunk lies."""
    return folder / f"{number:08d}.npz"


def write_part(path: Path, arrays: Arrays) -> None:
    """Writes a chunk's arrays.

    Raises:
        StorageFullError: If the disk is full.
    """
    import numpy as np

    with replacing_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_part(path: Path) -> Arrays:
    """Reads a chunk's arrays, which a worker has said to be there.

    Raises:
        ClusterError: If they do not appear.
        DamagedFileError: If they are not what was written; the file is gone then.
    """
    import numpy as np

    until = time.monotonic() + _LATE_S
    while not path.exists():
        if time.monotonic() > until:
            raise ClusterError(
                f"a worker has written {path.name}, and it does not appear here",
                where=str(path.parent),
                fix="see to it that all machines see the same project folder, and run again",
            )
        time.sleep(_POLL_S)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError) as error:
        path.unlink(missing_ok=True)
        raise DamagedFileError(
            f"{path} is damaged: its bytes are not those that a worker has written",
            where=str(path),
            fix="run again: only this part is made anew; and have a look at the disk",
        ) from error
