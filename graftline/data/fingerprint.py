"""The state of a source at this moment: its files by name and content, without decoding an image.

A file whose size, time of change and inode are the same as when it was last read is not read
again, so that looking at an unchanged folder costs no more than listing it. The sources without
files of one's own (``mnist-5k``, ``mnist``) are pinned by hash, and so never change.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from graftline.compute.parallel import ordered_map
from graftline.core.errors import DataError
from graftline.core.files import replacing_file, sha256_record, sha256_stream
from graftline.core.params import DataParams
from graftline.core.records import Record
from graftline.core.workspace import Workspace
from graftline.data.decoding import refuse_large
from graftline.data.opening import opened_file
from graftline.data.seen import UNREAD, SeenFiles, Stamp, WholeFiles, settle, stamp_of
from graftline.data.source_path import located
from graftline.data.sources import bundled, folder, idx, keras_mnist, manifest
from graftline.data.sources.catalog import ImageFile

_COLUMNS = ("file", "size", "changed_ns", "inode", "digest")
_AT_ONCE = 64
"""Files that a thread looks at."""
_ROWS = 10_000
T = TypeVar("T")


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


class LoadedSource(Record):
    """``var/source/loaded.json``: what the source held when it was last loaded, by any door."""

    lies_at: ClassVar[str] = "var/source/loaded.json"

    source_digest: str


class _Listed(NamedTuple):
    """The files of a source, which are to be read.

    Args:
        within: See :func:`graftline.data.opening.open_file`.
        max_px: No file is larger than an image of so many pixels.
        images: Their paths.
        others: Those of files of any size.
    """

    within: str | None
    max_px: int
    images: Collection[str] = ()
    others: Collection[str] = ()

    @property
    def paths(self) -> list[str]:
        return sorted([*self.others, *self.images], key=os.fsencode)


class _Look(NamedTuple):
    """What a look at a file gave, as :meth:`graftline.data.seen.SeenFiles.add` takes it."""

    stamp: Stamp
    digest: bytes
    unread: str | None = None
    read: bool = True
    """False for what an earlier look wrote down."""


def source_state(workspace: Workspace, params: DataParams) -> SourceState:
    """Looks at the source that ``params`` name; keeps what it read for the next look.

    Raises:
        DataError: If the source cannot be used, as the load step would say.
    """
    if (pinned := _pinned(params)) is not None:
        return pinned
    root = located(params, workspace.root)
    listed = _listed(params, root)
    paths, seen = listed.paths, SeenFiles()
    known = _joined(paths, _noted(_seen_file(workspace)))
    read = 0
    for looks in ordered_map(partial(_look_at, listed), _batches(known)):
        for look in looks:
            seen.add(look.stamp, look.digest, look.unread)
            read += look.read
    if read:
        _write(_seen_file(workspace), paths, seen)
    return _state(paths, seen, root)


class LoadedFiles:
    """Takes down what ``load`` reads; made before it looks at the source."""

    def __init__(self, workspace: Workspace, params: DataParams) -> None:
        self._workspace, self._params = workspace, params
        self.seen = SeenFiles()
        """Of the image files, in the order of the source."""
        self.whole = WholeFiles()
        """Of files that hold many images."""
        self._looks: dict[str, _Look] = {}
        if params.source == "manifest":
            root = located(params, workspace.root)
            table = str(root / params.manifest)
            listed = _Listed(str(root), params.max_image_px, others=(table,))
            self._looks[table] = _look(table, listed, None)

    def note(self, files: Sequence[ImageFile]) -> None:
        """Writes down that this is what was loaded, and spares the next look the reading.

        Args:
            files: Of the source, one for each that was seen.
        """
        state = _pinned(self._params)
        if state is None:
            paths = [file.path for file in files]
            whole = {path: _Look(*one) for path, one in self.whole.seen.items()}
            for path, look in (self._looks | whole).items():
                paths.append(path)
                self.seen.add(look.stamp, look.digest, look.unread)
            paths, seen = _in_order(paths, self.seen)
            _write(_seen_file(self._workspace), paths, seen)
            state = _state(paths, seen, located(self._params, self._workspace.root))
        keep(state, _loaded_file(self._workspace))
        note_loaded(self._workspace, state)


def note_loaded(workspace: Workspace, state: SourceState) -> None:
    """Writes down what ``data/loaded`` was made from."""
    LoadedSource(source_digest=state.digest).write(LoadedSource.path_in(workspace))


def is_loaded(workspace: Workspace, state: SourceState) -> bool | None:
    """Whether just this is what ``load`` read last, by any door; None where it has not run here."""
    noted = LoadedSource.find_in(workspace)
    return None if noted is None else noted.source_digest == state.digest


def loaded_state(workspace: Workspace) -> SourceState | None:
    """What ``load`` read last; None where that is not known."""
    state = kept(_loaded_file(workspace))
    return state if state is not None and is_loaded(workspace, state) else None


def listing_digest(workspace: Workspace, params: DataParams) -> str:
    """What is the same for the same files, as long as none of them was touched; reads none.

    Who takes it for the content has to read the files after it, and may find a file that changed
    after the listing: of that, the next listing has another digest.

    Raises:
        DataError: As :func:`source_state`.
    """
    if (pinned := _pinned(params)) is not None:
        return pinned.digest
    listed = _listed(params, located(params, workspace.root)).paths
    digest, changed_ns = hashlib.sha256(), 0
    stamps = (stamp for some in ordered_map(_stamped, _batches(listed)) for stamp in some)
    for path, stamp in zip(listed, stamps, strict=True):
        digest.update(repr((os.fsencode(path), *stamp)).encode())
        changed_ns = max(changed_ns, stamp.changed_ns)
    settle(changed_ns)
    return digest.hexdigest()


def keep(state: SourceState, file: Path) -> None:
    """Writes a state down, for :func:`kept` to read."""
    _write_table(file, {"name": list(state.files.keys()), "sha256": list(state.files.values())})


def kept(file: Path) -> SourceState | None:
    """The state that was written down; None if there is none that can be read."""
    return SourceState(dict(rows)) if (rows := list(_rows(file, ("name", "sha256")))) else None


def _pinned(params: DataParams) -> SourceState | None:
    if params.source == "mnist-5k":
        return SourceState({"mnist-5k": bundled.DIGITS.sha256})
    if params.source == "mnist":
        return SourceState({"mnist": keras_mnist.SHA256})
    return None


def _listed(params: DataParams, root: Path) -> _Listed:
    max_px = params.max_image_px
    if params.source == "npz":
        return _Listed(None, max_px, others=(str(root),))
    if params.source == "idx":
        return _Listed(str(root), max_px, others=[str(path) for path in idx.files(root)])
    if params.source == "folder":
        catalog = folder.catalog(root, max_px)
        return _Listed(str(root), max_px, [file.path for file in catalog.files])
    catalog = manifest.catalog(root, params.manifest, max_px)
    images = {file.path for file in catalog.files}
    return _Listed(str(root), max_px, images, others=(str(root / params.manifest),))


def _batches(files: Iterable[T]) -> Iterator[list[T]]:
    """Enough at once that a thread's work is more than its start."""
    left = iter(files)
    while some := list(islice(left, _AT_ONCE)):
        yield some


def _joined(
    paths: Iterable[str], noted: Iterator[tuple[bytes, _Look]]
) -> Iterator[tuple[str, _Look | None]]:
    """Each path with what was noted of it; both are in the same order, so that none is held."""
    at = next(noted, None)
    for path in paths:
        name = os.fsencode(path)
        while at is not None and at[0] < name:
            at = next(noted, None)
        yield path, at[1] if at is not None and at[0] == name else None


def _look_at(listed: _Listed, files: Sequence[tuple[str, _Look | None]]) -> list[_Look]:
    return [_look(path, listed, before) for path, before in files]


def _look(path: str, listed: _Listed, before: _Look | None) -> _Look:
    # The load step says what is wrong with a file; here it only has to stay the same.
    try:
        if before is not None and before.stamp == stamp_of(os.stat(path)):
            return before
        with opened_file(path, listed.within) as file:
            status = os.fstat(file.fileno())
            if path not in listed.others:
                refuse_large(status.st_size, listed.max_px)
            return _Look(stamp_of(status), sha256_stream(file).encode())
    except DataError as error:
        return _Look(UNREAD, b"", error.what)
    except OSError as error:
        return _Look(UNREAD, b"", f"cannot be read: {error.strerror or error}")


def _stamped(paths: Sequence[str]) -> list[Stamp]:
    return [_listed_stamp(path) for path in paths]


def _listed_stamp(path: str) -> Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return UNREAD
    return Stamp(status.st_size, status.st_ctime_ns, status.st_ino)


def _in_order(paths: Sequence[str], seen: SeenFiles) -> tuple[list[str], SeenFiles]:
    """Sorted by path, each path once: a table may name a file twice."""
    ordered, one_by_one = [], SeenFiles()
    order = sorted(range(len(paths)), key=lambda position: os.fsencode(paths[position]))
    for path, positions in groupby(order, key=paths.__getitem__):
        first, *others = positions
        stamp, digest, unread = seen[first]
        if any(seen.told(other) != seen.told(first) for other in others):
            unread = "changed while it was read"
        ordered.append(path)
        one_by_one.add(stamp, digest, unread)
    return ordered, one_by_one


def _state(paths: Sequence[str], seen: SeenFiles, root: Path) -> SourceState:
    start = root if root.is_dir() else root.parent
    return SourceState(
        {
            folder.printable(os.path.relpath(path, start)): seen.told(position)
            for position, path in enumerate(paths)
        }
    )


def _seen_file(workspace: Workspace) -> Path:
    return workspace.var / "source" / "seen.parquet"


def _loaded_file(workspace: Workspace) -> Path:
    return workspace.var / "source" / "loaded.parquet"


def _write(file: Path, paths: Sequence[str], seen: SeenFiles) -> None:
    """Without those that have to be read again by the next look."""
    stamps = seen.stamps
    settled = np.flatnonzero(stamps[:, 1] >= 0)
    # As bytes: a file's name need not be text.
    names = [os.fsencode(paths[position]) for position in settled.tolist()]
    columns = (names, *stamps[settled].T, seen.digests[settled])
    _write_table(file, dict(zip(_COLUMNS, columns, strict=True)))


def _write_table(file: Path, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    with replacing_file(file) as temporary:
        parquet.write_table(pa.table(dict(columns)), temporary)


def _noted(file: Path) -> Iterator[tuple[bytes, _Look]]:
    """What an earlier look has written, in the order of the paths."""
    for path, *stamp, digest in _rows(file, _COLUMNS):
        yield path, _Look(Stamp(*stamp), digest, read=False)


def _rows(file: Path, names: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """Rows of a table that was written here; none from where on it cannot be read."""
    if not file.is_file():
        return
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(_ROWS, columns=list(names)):
                yield from zip(*(batch.column(name).to_pylist() for name in names), strict=True)
    except (OSError, pa.ArrowException, KeyError):
        return
