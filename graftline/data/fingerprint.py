"""The state of a source at this moment: its files by name and content, without decoding an image.

A file whose size, time of change and inode are the same as when it was last read is not read
again, so that looking at an unchanged folder costs no more than listing it. The sources without
files of one's own (``mnist-5k``, ``mnist``) are pinned by hash, and so never change.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from graftline.compute.parallel import ordered_map
from graftline.core.errors import DataError
from graftline.core.files import replacing_file, sha256_record, sha256_stream
from graftline.core.params import DataParams
from graftline.core.workspace import Workspace
from graftline.data.decoding import largest_bytes
from graftline.data.opening import opened_file
from graftline.data.source_path import located
from graftline.data.sources import bundled, folder, idx, keras_mnist, manifest

_COLUMNS = ("path", "size", "changed_ns", "inode", "sha256")
_FRESH_NS = 2_000_000_000
"""A file may change twice within one tick of a file system's clock, at most two seconds (FAT)."""


@dataclass(frozen=True)
class SourceState:
    """A source at one moment.

    Args:
        files: The SHA-256 of each file's bytes, by its path within the source.
    """

    files: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """The same for the same names and contents, wherever and whenever they lie."""
        return sha256_record(dict(self.files))


@dataclass(frozen=True)
class Difference:
    """How many files of a source came, changed and went."""

    added: int
    changed: int
    removed: int

    @classmethod
    def between(cls, before: SourceState, after: SourceState) -> Difference:
        """What has to be done to ``before`` to get ``after``."""
        old, new = before.files, after.files
        return cls(
            added=len(new.keys() - old.keys()),
            changed=sum(old[name] != new[name] for name in old.keys() & new.keys()),
            removed=len(old.keys() - new.keys()),
        )

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def __str__(self) -> str:
        counts = (("added", self.added), ("changed", self.changed), ("removed", self.removed))
        told = [f"{count:,} {what}" for what, count in counts if count]
        return f"{', '.join(told) or 'the same'}"


class _Listed(NamedTuple):
    """A file to be read, as :func:`graftline.data.opening.open_file` takes it."""

    path: str
    within: str | None = None
    max_bytes: int = sys.maxsize


class _Seen(NamedTuple):
    """What a file was like when it was read."""

    size: int
    changed_ns: int
    inode: int
    sha256: str


def source_state(workspace: Workspace, params: DataParams) -> SourceState:
    """Looks at the source that ``params`` name; keeps what it read for the next look.

    Raises:
        DataError: If the source cannot be used, as the load step would say.
    """
    if params.source == "mnist-5k":
        return SourceState({"mnist-5k": bundled.DIGITS.sha256})
    if params.source == "mnist":
        return SourceState({"mnist": keras_mnist.SHA256})
    root = located(params, workspace.root)
    listed = sorted(_paths(params, root))
    cache_file = workspace.var / "source" / "seen.parquet"
    known = _read(cache_file)
    digests = _digested(listed, known)
    now = {one.path: seen for one, seen in zip(listed, digests, strict=True)}
    if now != known:
        _write(cache_file, now)
    start = root if root.is_dir() else root.parent
    return SourceState(
        {folder.printable(os.path.relpath(path, start)): seen.sha256 for path, seen in now.items()}
    )


def keep(state: SourceState, file: Path) -> None:
    """Writes a state down, for :func:`kept` to read."""
    _write_table(file, {"name": list(state.files.keys()), "sha256": list(state.files.values())})


def kept(file: Path) -> SourceState | None:
    """The state that was written down; None if there is none that can be read."""
    table = _columns(file, ("name", "sha256"))
    return None if table is None else SourceState(dict(zip(*table, strict=True)))


def _paths(params: DataParams, root: Path) -> list[_Listed]:
    if params.source == "npz":
        return [_Listed(str(root))]
    inside = str(root)
    if params.source == "idx":
        return [_Listed(str(path), inside) for path in idx.files(root)]
    if params.source == "folder":
        catalog = folder.catalog(root, params.max_image_px)
    else:
        catalog = manifest.catalog(root, params.manifest, params.max_image_px)
    limit = largest_bytes(params.max_image_px)
    paths = {file.path for file in catalog.files}
    images = [_Listed(path, inside, limit) for path in sorted(paths)]
    if params.source == "folder":
        return images
    return [_Listed(str(root / params.manifest), inside), *images]


def _digested(listed: Iterable[_Listed], known: Mapping[str, _Seen]) -> Iterable[_Seen]:
    too_fresh_ns = time.time_ns() - _FRESH_NS
    return ordered_map(lambda one: _digest(one, known.get(one.path), too_fresh_ns), listed)


def _digest(listed: _Listed, known: _Seen | None, too_fresh_ns: int) -> _Seen:
    # The load step says what is wrong with a file; here it only has to stay the same.
    try:
        if known is not None and known[:3] == _stamp(os.stat(listed.path), too_fresh_ns):
            return known
        with opened_file(listed.path, listed.within) as file:
            # From before the reading: what changes meanwhile is read again by the next look.
            status = os.fstat(file.fileno())
            if status.st_size > listed.max_bytes:
                return _Seen(status.st_size, -1, 0, "too large for an image")
            return _Seen(*_stamp(status, too_fresh_ns), sha256_stream(file))
    except DataError as error:
        return _Seen(0, -1, 0, error.what)
    except OSError as error:
        return _Seen(0, -1, 0, f"cannot be read: {error.strerror or error}")


def _stamp(status: os.stat_result, too_fresh_ns: int) -> tuple[int, int, int]:
    # The inode's own time of change: the one of the content can be set back by a copying program.
    fresh = status.st_ctime_ns > too_fresh_ns
    return (status.st_size, -1 if fresh else status.st_ctime_ns, status.st_ino)


def _read(file: Path) -> dict[str, _Seen]:
    columns = _columns(file, _COLUMNS)
    if columns is None:
        return {}
    paths, *rest = columns
    seen = dict(zip(paths, map(_Seen, *rest), strict=True))
    return {path: one for path, one in seen.items() if one.changed_ns >= 0}


def _write(file: Path, seen: Mapping[str, _Seen]) -> None:
    rows = [(path, *one) for path, one in seen.items()]
    _write_table(file, dict(zip(_COLUMNS, map(list, zip(*rows, strict=True)), strict=True)))


def _write_table(file: Path, columns: dict[str, list[Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    with replacing_file(file) as temporary:
        parquet.write_table(pa.table(columns), temporary)


def _columns(file: Path, names: tuple[str, ...]) -> list[list[Any]] | None:
    if not file.is_file():
        return None
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(file, columns=list(names))
        return [table.column(name).to_pylist() for name in names]
    except (OSError, pa.ArrowException, KeyError):
        return None
