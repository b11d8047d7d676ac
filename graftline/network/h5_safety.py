"""HDF5 files of unknown origin: looked through before anything reads their values.

An HDF5 file can name other files of the machine for its values, hold groups that contain
themselves, and say that it holds far more than it does. Weights have no reason for any of it.
See the HDF5 specification (version 3.0), sections IV.A.2.g (links), i (layouts) and h (external
files).
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

from graftline.core.errors import WeightsError, visible

_SPARE_BYTES = 16 << 20
_SUSPECT_RATIO = 16
"""Trained weights hardly shrink; a few names and zeros may."""
_MOST_ENTRIES = 100_000
_MOST_DIMENSIONS = 8
_COLLECTION = b"GCOL\x01\0\0\0"
"""Begins a collection of texts of no fixed length; its size follows, in 8 bytes."""


def refuse_hostile(path: Path, content: bytes | None = None) -> None:
    """Makes sure that a weights file carries its values itself, and about as many as its bytes.

    Only names, links, types and shapes are read.

    Args:
        path: The file, or the archive that it is in.
        content: The file's bytes, if it is in an archive.

    Raises:
        WeightsError: If it holds a soft or an external link, a dataset that is virtual or kept in
            another file, a group within itself, values that are no numbers or names, or unpacks to
            more than 16 times its size (beyond 16 MiB).
        OSError: If it is no HDF5 file. Broken ones raise almost anything besides.
    """
    import h5py
    from h5py import h5a, h5d

    unpacked_bytes, texts = 0, 0
    with h5py.File(path if content is None else BytesIO(content), "r") as file:
        for item in _everything(file.id, path):
            for number in range(h5a.get_num_attrs(item)):
                texts += _texts(h5a.open(item, index=number))
            if isinstance(item, h5d.DatasetID):
                _refuse_elsewhere(item, path)
                unpacked_bytes += math.prod(item.shape or ()) * item.dtype.itemsize
                texts += _texts(item)
    if texts:
        unpacked_bytes += texts * _longest_text_bytes(path, content)
    size_bytes = path.stat().st_size if content is None else len(content)
    if unpacked_bytes > _SPARE_BYTES + _SUSPECT_RATIO * size_bytes:
        raise WeightsError(
            f"the file unpacks from {size_bytes} to {unpacked_bytes} bytes, as decompression bombs "
            "do",
            where=str(path),
            allowed=f"at most {_SUSPECT_RATIO} times the file's size",
            fix="use a weights file from a source that you trust",
        )


def _texts(values: Any) -> int:
    """How many texts of no fixed length a dataset or an attribute holds.

    Each is a reference to where the text lies. All may lead to one, and each becomes a copy of its
    own when it is read.
    """
    return math.prod(values.shape or ()) if values.dtype.kind == "O" else 0


def _longest_text_bytes(path: Path, content: bytes | None) -> int:
    """No text is longer than the largest collection of them (specification, III.E)."""
    with ExitStack() as stack:
        data: bytes | mmap.mmap
        if content is None:
            handle = stack.enter_context(path.open("rb"))
            mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
            data = stack.enter_context(mapped)
        else:
            data = content
        sizes, at = [0], data.find(_COLLECTION)
        while at >= 0:
            start = at + len(_COLLECTION)
            sizes.append(int.from_bytes(data[start : start + 8], "little"))
            at = data.find(_COLLECTION, start)
    return max(sizes)


def _everything(file: Any, path: Path) -> Iterator[Any]:
    """Every object of a file, each once and none of another file, as h5py's low level has them."""
    from h5py import h5d, h5g, h5l, h5o

    root = h5o.open(file, b"/")
    yield root
    waiting = [root]
    seen = {h5o.get_info(root).addr}
    while waiting:
        group = waiting.pop()
        for name in group:
            if group.links.get_info(name).type != h5l.TYPE_HARD:
                raise _elsewhere(path, _shown(group, name))
            item = h5o.open(group, name)
            if not isinstance(item, (h5g.GroupID, h5d.DatasetID)):
                raise _odd(path, f"{_shown(group, name)} is neither a group nor values")
            address = h5o.get_info(item).addr
            if len(seen) > _MOST_ENTRIES:
                raise _odd(path, f"it has more than {_MOST_ENTRIES} entries")
            if address in seen:
                raise _odd(path, f"{_shown(group, name)} stands in it more than once")
            seen.add(address)
            yield item
            if isinstance(item, h5g.GroupID):
                waiting.append(item)


def _refuse_elsewhere(item: Any, path: Path) -> None:
    from h5py import h5d

    layout = item.get_create_plist()
    if layout.get_layout() == h5d.VIRTUAL or layout.get_external_count():
        raise _elsewhere(path, _shown(item))
    if item.dtype.kind not in "biufSO" or item.rank > _MOST_DIMENSIONS:
        raise _odd(path, f"{_shown(item)} holds {item.dtype} in {item.rank} dimensions")


def _shown(item: Any, below: bytes | None = None) -> str:
    from h5py import h5i

    name = h5i.get_name(item) or b"?"
    if below is not None:
        name = name.rstrip(b"/") + b"/" + below
    return visible(name.decode("utf-8", "backslashreplace"))


def _elsewhere(path: Path, name: str) -> WeightsError:
    return WeightsError(
        f"the file points elsewhere for its values (at {name})",
        where=str(path),
        fix="use a weights file that carries all its values itself",
    )


def _odd(path: Path, problem: str) -> WeightsError:
    return WeightsError(
        f"the file is built as no weights file is: {problem}",
        where=str(path),
        allowed="groups, and values that are numbers or names",
        fix="use a weights file as Keras writes it",
    )
