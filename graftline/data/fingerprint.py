"""The state of a source at this moment: its files by name and content, without decoding an image.

A file whose size, time of change and inode are the same as when it was last read is not read
again, so that looking at an unchanged folder costs no more than listing it. The sources without
files of one's own (``mnist-5k``, ``mnist``) are pinned by hash, and so never change.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from graftline.compute.parallel import ordered_map
from graftline.core.errors import DataError
from graftline.core.files import replacing_file, sha256_record, sha256_stream
from graftline.core.params import DataParams
from graftline.core.records import Record
from graftline.core.workspace import Workspace
from graftline.data.decoding import refuse_large
from graftline.data.opening import opened_file
from graftline.data.seen import UNREAD, Seen, SeenFiles, Stamp, settle, stamp_of
from graftline.data.source_path import located
from graftline.data.sources import bundled, folder, idx, keras_mnist, manifest
from graftline.data.sources.catalog import ImageFile

_COLUMNS = ("path", "size", "changed_ns", "inode", "sha256")
_BY_FILE = ("folder", "manifest")
"""The sources with a file for each image."""


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
    """A file to be read, as :func:`graftline.data.opening.open_file` takes it."""

    path: str
    within: str | None = None
    max_px: int | None = None
    """Of an image; None for another file."""


def source_state(workspace: Workspace, params: DataParams) -> SourceState:
    """Looks at the source that ``params`` name; keeps what it read for the next look.

    Raises:
        DataError: If the source cannot be used, as the load step would say.
    """
    if (pinned := _pinned(params)) is not None:
        return pinned
    root = located(params, workspace.root)
    listed = sorted(_paths(params, root))
    known = _read(_seen_file(workspace))
    looks = ordered_map(lambda one: _look(one, known.get(one.path)), listed)
    now = {one.path: seen for one, seen in zip(listed, looks, strict=True)}
    if now != known:
        _write(_seen_file(workspace), now)
    return _state(now, root)


class LoadedFiles:
    """Takes down what ``load`` reads; made before it looks at the source.

    Raises:
        DataError: As :func:`source_state`.
    """

    def __init__(self, workspace: Workspace, params: DataParams) -> None:
        self._workspace, self._params = workspace, params
        self.seen = SeenFiles()
        """Of the image files, in the order of the source."""
        self._before: SourceState | None = None
        self._table: tuple[str, Seen] | None = None
        if params.source not in _BY_FILE:
            self._before = source_state(workspace, params)
        elif params.source == "manifest":
            root = located(params, workspace.root)
            table = _Listed(str(root / params.manifest), str(root))
            known = _read(_seen_file(workspace))
            self._table = table.path, _look(table, known.get(table.path))

    def note(self, files: Sequence[ImageFile]) -> None:
        """Writes down that this is what was loaded, and spares the next look the reading.

        Args:
            files: Of the source, one for each that was seen.
        """
        state = self._before
        if state is None:
            now = dict([self._table] if self._table else [])
            for position, file in enumerate(files):
                seen = self.seen[position]
                # A table may name a file twice, and that may have changed in between.
                if now.setdefault(file.path, seen).told != seen.told:
                    now[file.path] = Seen(UNREAD, "changed while it was read")
            now = dict(sorted(now.items()))
            _write(_seen_file(self._workspace), now)
            state = _state(now, located(self._params, self._workspace.root))
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
    listed = sorted(_paths(params, located(params, workspace.root)))
    stamps = list(ordered_map(_stamped, listed))
    settle(max((stamp.changed_ns for stamp in stamps), default=0))
    return sha256_record([[one.path, *stamp] for one, stamp in zip(listed, stamps, strict=True)])


def keep(state: SourceState, file: Path) -> None:
    """Writes a state down, for :func:`kept` to read."""
    _write_table(file, {"name": list(state.files.keys()), "sha256": list(state.files.values())})


def kept(file: Path) -> SourceState | None:
    """The state that was written down; None if there is none that can be read."""
    table = _columns(file, ("name", "sha256"))
    return None if table is None else SourceState(dict(zip(*table, strict=True)))


def _pinned(params: DataParams) -> SourceState | None:
    if params.source == "mnist-5k":
        return SourceState({"mnist-5k": bundled.DIGITS.sha256})
    if params.source == "mnist":
        return SourceState({"mnist": keras_mnist.SHA256})
    return None


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
    paths = {file.path for file in catalog.files}
    images = [_Listed(path, inside, params.max_image_px) for path in sorted(paths)]
    if params.source == "folder":
        return images
    return [_Listed(str(root / params.manifest), inside), *images]


def _look(listed: _Listed, known: Seen | None) -> Seen:
    # The load step says what is wrong with a file; here it only has to stay the same.
    try:
        if known is not None and known.stamp == stamp_of(os.stat(listed.path)):
            return known
        with opened_file(listed.path, listed.within) as file:
            status = os.fstat(file.fileno())
            if listed.max_px is not None:
                refuse_large(status.st_size, listed.max_px)
            return Seen(stamp_of(status), sha256_stream(file))
    except DataError as error:
        return Seen(UNREAD, error.what)
    except OSError as error:
        return Seen(UNREAD, f"cannot be read: {error.strerror or error}")


def _stamped(listed: _Listed) -> Stamp:
    try:
        status = os.stat(listed.path)
    except OSError:
        return UNREAD
    return Stamp(status.st_size, status.st_ctime_ns, status.st_ino)


def _state(seen: Mapping[str, Seen], root: Path) -> SourceState:
    start = root if root.is_dir() else root.parent
    return SourceState(
        {folder.printable(os.path.relpath(path, start)): one.told for path, one in seen.items()}
    )


def _seen_file(workspace: Workspace) -> Path:
    return workspace.var / "source" / "seen.parquet"


def _loaded_file(workspace: Workspace) -> Path:
    return workspace.var / "source" / "loaded.parquet"


def _read(file: Path) -> dict[str, Seen]:
    columns = _columns(file, _COLUMNS)
    if columns is None:
        return {}
    known = zip(*columns, strict=True)
    return {path: Seen(Stamp(*stamp), told) for path, *stamp, told in known if stamp[1] >= 0}


def _write(file: Path, seen: Mapping[str, Seen]) -> None:
    rows = [(path, *one.stamp, one.told) for path, one in seen.items()]
    columns = map(list, zip(*rows, strict=True)) if rows else ([] for _ in _COLUMNS)
    _write_table(file, dict(zip(_COLUMNS, columns, strict=True)))


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
