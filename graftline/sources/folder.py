"""Source ``folder``: a folder per class, optionally under train/, validation/ and test/."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from graftline.artifacts import Split
from graftline.errors import DataError, visible
from graftline.sources.catalog import Catalog, ImageFile, from_files
from graftline.sources.limits import refuse_many

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "test": "test",
}
# What file managers leave behind without a leading dot.
_LITTER = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})


def catalog(root: Path, max_px: int, max_images: int = sys.maxsize) -> Catalog:
    """Every file below a class's folder, at any depth, in the order of their names.

    Hidden files are left out, and so are files that lie beside the class folders. Every other
    file counts as an image, whatever its name ends in, so that none is missed in silence.

    Raises:
        DataError: If there are no classes, one is empty, the layout is unclear, or a link leads
            out of the folder.
    """
    start = len(os.path.join(root, ""))
    files: list[ImageFile] = []
    empty: list[str] = []
    for split, folder in _split_folders(root):
        for class_folder in _class_folders(folder, root):
            label = printable(class_folder.name)
            before = len(files)
            for path in _files_below(class_folder, root, ()):
                files.append(ImageFile(path, printable(path[start:]), label, split))
                refuse_many(len(files), max_images, root)
            if len(files) == before:
                empty.append(str(class_folder.relative_to(root)))
    if empty:
        raise DataError(
            f"{len(empty)} class folder(s) hold no image: {', '.join(empty)}",
            where=f"data.path: {root}",
            fix="put images into each, or remove the folder",
        )
    return from_files(files, max_px, root.resolve())


def printable(name: str) -> str:
    """A file's name as text that can be written and shown: composed (NFC), the rest as escapes.

    The rest are bytes that are no text, control characters, and marks that turn the direction of
    writing.
    """
    if name.isascii() and name.isprintable():
        return name
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return visible(unicodedata.normalize("NFC", text)).replace("\n", "\\n")


def inside(path: Path, root: Path) -> Path:
    """The path with its links followed.

    Raises:
        DataError: If it leads out of ``root``.
    """
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path} is a link that leads nowhere: {error}", where=str(path)) from error
    if not resolved.is_relative_to(root):
        raise DataError(
            f"{printable(str(path))} leads out of the source, to {resolved}",
            where=str(path),
            allowed=f"paths that stay inside {root}",
            fix="copy the file into the source, or set data.path to a folder that holds both",
        )
    return resolved


def _split_folders(root: Path) -> list[tuple[Split | None, Path]]:
    folders = [Path(entry) for entry in _visible(root) if entry.is_dir()]
    named = [path for path in folders if path.name in SPLIT_NAMES]
    splits = [SPLIT_NAMES[path.name] for path in named]
    if len(set(splits)) < 2 and len(named) < len(folders):
        return [(None, root)]
    if not folders:
        raise DataError(
            "there is no class folder here",
            where=f"data.path: {root}",
            allowed="a folder per class, optionally under train/, validation/ (or val/), test/",
            fix="set data.path to the folder that holds them",
        )
    odd = sorted({path.name for path in folders} - {path.name for path in named})
    if odd or "train" not in splits or len(set(splits)) < len(splits):
        names = ", ".join(printable(path.name) for path in folders)
        raise DataError(
            f"the folders do not tell which splits there are: {names}",
            where=f"data.path: {root}",
            allowed="class folders alone; or train/ with test/, validation/ (or val/), or both, "
            "and the class folders below",
            fix="rename or move the folders",
        )
    return [(SPLIT_NAMES[path.name], inside(path, root)) for path in named]


def _class_folders(folder: Path, root: Path) -> list[Path]:
    classes = [Path(entry) for entry in _visible(folder) if entry.is_dir()]
    if not classes:
        raise DataError(
            "there is no class folder here",
            where=str(folder),
            allowed="a folder per class, with the class's images",
        )
    for path in classes:
        inside(path, root)
    return classes


def _files_below(folder: Path, root: Path, above: tuple[Path, ...]) -> Iterator[str]:
    resolved = inside(folder, root)
    if resolved in above:
        raise DataError(f"{folder} is a link to a folder above itself", where=str(folder))
    for entry in _visible(folder):
        if entry.is_symlink():
            inside(Path(entry), root)
        if entry.is_dir():
            yield from _files_below(Path(entry), root, (*above, resolved))
        else:
            yield entry.path


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"the folder cannot be listed: {error}", where=str(folder)) from error
    return [
        entry for entry in found if not entry.name.startswith(".") and entry.name not in _LITTER
    ]
