"""Source ``folder``: a folder per class, optionally under train/, validation/ and test/.

What the folders at the top are, classes or splits, follows from their names and from what they
hold. Splits need names that say so (:mod:`graftline.data.sources.split_names`) and class folders in
common; classes whose names could be splits' hold images and no folders. What could be both is an
error: a model of the classes "train" and "test" would learn nothing that anybody wants to know.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from graftline.core.counts import counted
from graftline.core.errors import DataError, visible
from graftline.core.records import SPLITS, Split
from graftline.data.litter import is_litter
from graftline.data.sources.catalog import Catalog, ImageFile, from_files
from graftline.data.sources.limits import refuse_many
from graftline.data.sources.similar import folded
from graftline.data.sources.split_names import allowed, splits_named
from graftline.data.splits import natural_order

_LISTED = 10


def catalog(root: Path, max_px: int, max_images: int = sys.maxsize) -> Catalog:
    """Every file below a class's folder, at any depth, in the order of their names.

    Hidden files and litter (:mod:`graftline.data.litter`) are left out, and so are files that lie
    beside the class folders. Every other file counts as an image, whatever its name ends in, so
    that none is missed in silence.

    Raises:
        DataError: If there are no classes, one is empty, the layout is unclear, or a link leads
            out of the folder.
    """
    start = len(os.path.join(root, ""))
    files: list[ImageFile] = []
    empty: list[str] = []
    parts: dict[str, set[str]] = {}
    for split, folder in _split_folders(root):
        for class_folder in _class_folders(folder, root):
            label = printable(class_folder.name)
            before = len(files)
            below = len(os.path.join(class_folder, ""))
            for path in _files_below(class_folder, root, ()):
                if "/" in path[below:]:
                    parts.setdefault(label, set()).add(path[below:].partition("/")[0])
                files.append(ImageFile(path, printable(path[start:]), label, split))
                refuse_many(len(files), max_images, root)
            if len(files) == before:
                empty.append(str(class_folder.relative_to(root)))
    if empty:
        raise DataError(
            f"{counted(len(empty), 'class folder holds', 'class folders hold')} no image: "
            f"{', '.join(empty)}",
            where=f"data.path: {root}",
            fix="put images into each, or remove the folder",
        )
    _refuse_splits_below(parts, root)
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
    folders = {entry.name: Path(entry) for entry in _visible(root) if entry.is_dir()}
    if not folders:
        raise DataError(
            "there is no class folder here",
            where=f"data.path: {root}",
            allowed="a folder per class, optionally under train/, validation/ (or val/), test/",
            fix="set data.path to the folder that holds them",
        )
    splits = splits_named(folders)
    classes = {name: _folders_in(folders[name]) for name in splits}
    alone = len(set(splits.values())) < 2 and len(folders) > 1
    if not splits or (alone and not any(classes.values())):
        # What is called like a split holds images, as a class does: a train is a train.
        return [(None, root)]
    if problem := _unclear(folders, splits, classes):
        shown = ", ".join(printable(name) for name in folders)
        raise DataError(
            f"the folders do not tell which splits there are: {shown}. If they are splits, "
            f"{problem}. If they are classes, some are called like splits",
            where=f"data.path: {root}",
            allowed="class folders alone; or train/ with test/, validation/ (or val/), or both, "
            f"once each, and the same class folders below; names of splits are {allowed()}",
            fix="splits: rename, move or merge the folders until that holds. Classes: list the "
            "images in a table with the columns path and label, and set data.source to manifest",
        )
    return [(split, inside(folders[name], root)) for name, split in splits.items()]


def _unclear(
    folders: Collection[str], splits: Mapping[str, Split], classes: Mapping[str, set[str]]
) -> str | None:
    """Why folders of which some are called like splits are not simply the splits."""
    odd = [printable(name) for name in folders if name not in splits]
    if odd:
        return f"it is not clear what {', '.join(odd)} is among them"
    for split in SPLITS:
        same = [printable(name) for name, its in splits.items() if its == split]
        if len(same) > 1:
            return f"{' and '.join(same)} are both {split}"
    if "train" not in splits.values():
        return "there is none for training"
    if not any(classes.values()):
        return "no folder tells of the images' classes"
    known = {name: {folded(one) for one in inner} for name, inner in classes.items() if inner}
    if not set.intersection(*known.values()):
        shown = (f"{printable(name)} {', '.join(_listed(classes[name]))}" for name in known)
        return f"they share no class: {'; '.join(shown)}"
    # Where some classes are missing somewhere, they are splits still, and not whole.
    return None


def _listed(names: Collection[str]) -> list[str]:
    listed = [printable(name) for name in natural_order(names)]
    return listed if len(listed) <= _LISTED else [*listed[:_LISTED], "..."]


def _folders_in(folder: Path) -> set[str]:
    return {entry.name for entry in _visible(folder) if entry.is_dir()}


def _refuse_splits_below(parts: Mapping[str, Collection[str]], root: Path) -> None:
    """Splits that stand below the classes are no splits to anything that reads the classes alone.

    Args:
        parts: By class, the folders right in it.
        root: The source.
    """
    for label, names in parts.items():
        splits = splits_named(names)
        if len(set(splits.values())) > 1 and len(splits) == len(names):
            shown = ", ".join(printable(name) for name in natural_order(names))
            raise DataError(
                f"class {label!r} holds the folders {shown}: splits below the classes, or parts "
                "of the class that are only called so",
                where=f"data.path: {root}",
                allowed="splits above the classes: train/cat, train/dog, test/cat, test/dog",
                fix="splits: move them above the classes. No splits: rename these folders, or "
                "move their images into the folder above",
            )


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
    return [entry for entry in found if not is_litter(entry.name)]
