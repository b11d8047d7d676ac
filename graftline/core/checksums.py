"""Folders that cross from one step to the next list checksums of their files, and are held to them.

A disk that fails gives back other bytes under the same name, size and time. DVC, which goes by size
and time, does not see that. So each folder that a step writes holds a file ``XXH128SUMS``, in the
form that ``xxh128sum --check`` reads, and every file of it is compared with that before it is used.

XXH3 (128 bits) takes a fraction of the time of SHA-256 (docs/reliability.md). Nobody
has to be kept from finding other bytes with the same sum: who can write the files can write the
list. What is registered or fetched is held to its SHA-256.
"""

from __future__ import annotations

import hashlib
import re
import threading
from itertools import takewhile
from pathlib import Path

import xxhash

from graftline.core.errors import DamagedFileError

CHECKSUMS = "XXH128SUMS"
_LINE = re.compile(r"([0-9a-f]{32})  (.+)")
_PIECE_BYTES = 1 << 20
_OUTPUTS = ("data", "models", "reports")
_LEVELS = 3
"""A file lies at most so deep in a folder with a list: as the variables of a SavedModel."""
_known: dict[Path, tuple[int, ...]] = {}
"""Files found whole by this process, with what tells that they were not replaced since."""
_written: dict[Path, str] = {}
"""What this process has hashed while it wrote it, so that :func:`seal` need not read it again."""
_reading: dict[Path, threading.Lock] = {}


def seal(folder: Path) -> None:
    """Writes the checksums of all files in a folder that is finished."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    lines = (
        f"{_written.pop(path, None) or _checksum(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in files
    )
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def note_written(path: Path, checksum: str) -> None:
    """That all of a file has been written, and which bytes were meant to be."""
    _written[path] = checksum


def verify(path: Path) -> None:
    """Makes sure that a file is what its step wrote, if its folder lists checksums.

    Each file is read once by a process, in pieces, unless it is replaced meanwhile.

    Args:
        path: A file; nothing is said of one that is not there.

    Raises:
        DamagedFileError: If its bytes are others, or the list leaves it out.
    """
    if path.name == CHECKSUMS:
        return
    # Threads that come for the same file at once would each read all of it.
    with _reading.setdefault(path, threading.Lock()):
        _verify(path)


def verify_all(place: Path) -> None:
    """Makes sure of a file, or of every file below a folder; see :func:`verify`."""
    for path in (place, *place.rglob("*")):
        if path.is_file():
            verify(path)


def _verify(path: Path) -> None:
    # A list beside or above the checkout is somebody else's, of what was downloaded, say.
    ours = takewhile(lambda one: not (one / "dvc.yaml").is_file(), path.parents[:_LEVELS])
    listed = next(filter(Path.is_file, (one / CHECKSUMS for one in ours)), None)
    if listed is None:
        return
    try:
        status = path.stat()
        text = listed.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except UnicodeDecodeError as error:
        raise damaged(listed) from error
    state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if _known.get(path) == state:
        return
    *lines, rest = text.split("\n")
    found = [_LINE.fullmatch(line) for line in lines]
    if None in found or rest:
        raise damaged(listed)
    name = path.relative_to(listed.parent).as_posix()
    wanted = [one[1] for one in found if one is not None and one[2] == name]
    if wanted != [_checksum(path)]:
        raise damaged(path if wanted else listed)
    _known[path] = state


def _checksum(path: Path) -> str:
    checksum = xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            checksum.update(piece)
    return checksum.hexdigest()


def sha256_bytes(content: bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def damaged(path: Path) -> DamagedFileError:
    """That a file's bytes are not those that were written, and how it comes back.

    Taking the file away would not do: where DVC links instead of copying, and where its own copy
    is what the disk has damaged, the same bytes would come back.
    """
    root = next((one for one in path.parents if (one / "dvc.yaml").is_file()), None)
    if root is not None and path.relative_to(root).parts[0] in _OUTPUTS:
        fix = (
            "run graftline mend, which removes what is damaged, in DVC's cache too; then run again "
            "(python -m flows.train, or dvc repro): it comes back from DVC's cache, or is made "
            "anew; and have a look at the disk"
        )
    else:
        fix = "copy it anew from where it was made, and have a look at the disk"
    return DamagedFileError(
        f"{path} is damaged: its bytes are not those that were written", where=str(path), fix=fix
    )
