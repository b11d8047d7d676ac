"""Which files are to be predicted: folders, tables, patterns and single files, in order."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from graftline.core.errors import DataError
from graftline.data.image_files import images_below
from graftline.data.litter import is_litter
from graftline.data.sources.folder import inside, printable
from graftline.data.sources.manifest import named_file
from graftline.data.sources.tables import cells, is_table


@dataclass(frozen=True)
class Input:
    """One row to come.

    Args:
        name: As the predictions call it: what a table says, or the path as it was given.
        file: The file's path as bytes; None if there is no file to open.
        error: Why there is none.
        size_bytes: Of the file.
        modified_ns: When it was last written, in nanoseconds since 1970.
        within: The folder as bytes, links followed, that the file must still lie in when it is
            opened; None for one that was named itself.
    """

    name: str
    file: bytes | None = None
    error: str | None = None
    size_bytes: int = 0
    modified_ns: int = 0
    within: bytes | None = None


def inputs(arguments: Sequence[str], left_out: Counter[str] | None = None) -> Iterator[Input]:
    """The files that the arguments stand for, in a settled order; none is read whole.

    Args:
        arguments: Image files; folders, for all images below them; tables (.csv, .tsv, .parquet)
            whose column ``path`` names files inside the table's folder; and patterns such as
            ``*.png``, which match no hidden files and no litter.
        left_out: Counts the files in folders that are no images, by the ending of their names.

    Yields:
        One for each file. What cannot be reached, or leads out of the folder that was named, has
        its reason.

    Raises:
        DataError: If an argument itself is not there, or is a table that cannot be read.
    """
    left_out = Counter() if left_out is None else left_out
    for argument in arguments:
        if os.path.lexists(argument):
            yield from _of_path(argument, left_out)
            continue
        # A shell leaves the ~ of a pattern in quotes as it is.
        argument = os.path.expanduser(argument)
        matches = [path for path in sorted(_matches(argument)) if not _is_litter(path, argument)]
        if not matches:
            raise DataError(
                f"{printable(argument)} is not there",
                where=printable(argument),
                allowed="an image file, a folder, a table (.csv, .tsv, .parquet) or a pattern "
                "(*.png)",
                fix="mend the path; patterns with ** also look into folders below",
            )
        for match in matches:
            yield from _of_path(match, left_out)


def _matches(pattern: str) -> Iterator[str]:
    try:
        yield from glob.iglob(pattern, recursive=True, include_hidden=True)
    except ValueError:  # A NUL in it.
        return


def _is_litter(path: str, pattern: str) -> bool:
    # What the pattern itself spells out is meant.
    spelled = set(pattern.split(os.sep))
    return any(is_litter(part) for part in path.split(os.sep) if part not in spelled)


def _of_path(path: str, left_out: Counter[str]) -> Iterator[Input]:
    if os.path.isdir(path):
        yield from _of_folder(path, left_out)
    elif is_table(path):
        yield from _of_table(Path(path))
    else:
        yield _stated(printable(path), path)


def _of_folder(folder: str, left_out: Counter[str]) -> Iterator[Input]:
    root = Path(folder).resolve()
    try:
        for path in images_below(folder, left_out):
            try:
                target = inside(Path(path), root) if os.path.islink(path) else path
            except DataError as error:
                yield Input(printable(path), error=error.what)
            else:
                # What a link to a folder leads to is found where it lies.
                if not os.path.isdir(target):
                    yield _stated(printable(path), target, root)
    except OSError as error:
        where = printable(str(error.filename or folder))
        raise DataError(
            f"{where} cannot be listed: {error.strerror}",
            where=where,
            fix="make the folder readable, or name those beside it",
        ) from error


def _of_table(table: Path) -> Iterator[Input]:
    root = table.parent.resolve()
    for _, (path,) in cells(table, ("path",)):
        name = printable(path)
        try:
            file = named_file(root, path)
        except DataError as error:
            yield Input(name, error=error.what)
        else:
            yield _stated(name, file, root)


def _stated(name: str, path: str | Path, within: Path | None = None) -> Input:
    try:
        status = os.stat(path)
    except OSError as error:
        return Input(name, error=error.strerror or str(error))
    folder = None if within is None else os.fsencode(within)
    return Input(name, os.fsencode(path), None, status.st_size, status.st_mtime_ns, folder)
