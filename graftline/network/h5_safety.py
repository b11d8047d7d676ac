"""HDF5 files of unknown origin: looked through before anything reads their values.

An HDF5 file can name other files of the machine for its values, hold groups that contain
themselves, and say that it holds far more than it does. Weights have no reason for any of it.
See the HDF5 specification (version 3.0), sections IV.A.2.g (links), i (layouts) and h (external
files).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftline.core.errors import WeightsError

if TYPE_CHECKING:
    import h5py

_SPARE_BYTES = 16 << 20
_SUSPECT_RATIO = 16
"""Trained weights hardly shrink; a few names and zeros may."""
_MOST_ENTRIES = 100_000
_MOST_DIMENSIONS = 8


def refuse_hostile(path: Path) -> None:
    """Makes sure that a weights file carries its values itself, and about as many as its bytes.

    Only names, links, types and shapes are read.

    Raises:
        WeightsError: If it holds a soft or an external link, a dataset that is virtual or kept in
            another file, a group within itself, values that are no numbers or names, or unpacks to
            more than 16 times its size (beyond 16 MiB).
        OSError: If it is no HDF5 file. Broken ones raise almost anything besides.
    """
    import h5py

    unpacked_bytes = 0
    with h5py.File(path, "r") as file:
        for item in _everything(file, path):
            if isinstance(item, h5py.Dataset):
                _refuse_elsewhere(item, path)
                unpacked_bytes += int(item.size or 0) * item.dtype.itemsize
    size_bytes = path.stat().st_size
    if unpacked_bytes > _SPARE_BYTES + _SUSPECT_RATIO * size_bytes:
        raise WeightsError(
            f"the file unpacks from {size_bytes} to {unpacked_bytes} bytes, as decompression bombs "
            "do",
            where=str(path),
            allowed=f"at most {_SUSPECT_RATIO} times the file's size",
            fix="use a weights file from a source that you trust",
        )


def _everything(file: h5py.File, path: Path) -> Iterator[Any]:
    """Every object below a file's root, each once and none of another file."""
    import h5py

    waiting: list[Any] = [file]
    seen = {_address(file)}
    while waiting:
        group = waiting.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise _elsewhere(path, f"{group.name}/{name}")
            item = group[name]
            if not isinstance(item, (h5py.Group, h5py.Dataset)):
                raise _odd(path, f"{group.name}/{name} is neither a group nor values")
            yield item
            if len(seen) > _MOST_ENTRIES:
                raise _odd(path, f"it has more than {_MOST_ENTRIES} entries")
            if _address(item) in seen:
                raise _odd(path, f"{group.name}/{name} stands in it more than once")
            seen.add(_address(item))
            if isinstance(item, h5py.Group):
                waiting.append(item)


def _address(item: Any) -> int:
    import h5py

    return int(h5py.h5o.get_info(item.id).addr)


def _refuse_elsewhere(item: h5py.Dataset, path: Path) -> None:
    if item.external or item.is_virtual:
        raise _elsewhere(path, str(item.name))
    if item.dtype.kind not in "biufSO" or item.ndim > _MOST_DIMENSIONS:
        raise _odd(path, f"{item.name} holds {item.dtype} in {item.ndim} dimensions")


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
