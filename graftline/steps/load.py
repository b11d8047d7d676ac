"""Step ``load``: reads a source, validates it and splits it."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from graftline.core.counts import counted
from graftline.core.csv_files import write_csv
from graftline.core.errors import DataError
from graftline.core.files import replacing_directory, replacing_file
from graftline.core.params import DataParams, Params
from graftline.core.progress import progress
from graftline.core.records import SPLITS, Dataset, Split, WhiteLevels
from graftline.core.workspace import Workspace
from graftline.data import sources
from graftline.data.decoding import KNOWN, collected_warnings
from graftline.data.duplicates import Repeats, found
from graftline.data.fingerprint import LoadedFiles
from graftline.data.seen import SeenFiles
from graftline.data.shards import ShardWriter, write_manifest
from graftline.data.sources import similar
from graftline.data.sources.catalog import Broken, Catalog
from graftline.data.splits import NO_SPLIT, Images, assigned, natural_order, refuse_missing_classes
from graftline.data.stored import StoredImages
from graftline.data.white_levels import Survey

_REPORT = "report.txt"
_IN_SPLITS = ("image stands in more than one split", "images stand in more than one split")
_UNDER_LABELS = ("image stands under more than one label", "images stand under more than one label")
_log = logging.getLogger("graftline.steps.load")
_LISTED = 50
_PROGRESS_EVERY = 256
_AT_ONCE = 4096


def load(workspace: Workspace, params: Params) -> Dataset:
    """Reads ``params.data``'s source into ``data/loaded/``.

    Writes packed images (see :mod:`graftline.data.shards`), ``manifest.parquet`` in the order of
    split, then content hash, ``dataset.json``, ``classes.json`` (names in the order of labels),
    ``report.txt`` (what is remarkable, for people) and ``skipped.csv`` (file, reason).

    Raises:
        DataError: If the source, its images, labels or splits cannot be used. The earlier
            ``data/loaded/`` stays as it was.
        DownloadError: If the source must be fetched and cannot be.
        StorageFullError: If the disk is full.
    """
    with (
        replacing_directory(workspace.loaded, sealed=True) as folder,
        tempfile.TemporaryDirectory(dir=folder) as scratch,
        collected_warnings() as warned,
    ):
        loaded = LoadedFiles(workspace, params.data)
        catalog = sources.read(params.data, workspace.root, Path(scratch), loaded.whole)
        alike = _alike(catalog)
        _refuse_alike(alike, params.data)
        survey = Survey(params.data.white_level)
        images, broken = _stored(catalog, folder, survey, loaded.seen)
        _judge(broken, params.data, workspace)
        white = survey.judged()
        placed = _placed(images, params)
        repeats = placed.repeats()
        dataset = _dataset(params.data.source, placed, catalog, repeats, broken, white)
        remarks = placed.described(repeats)
        _refuse_leaks(remarks, params.data)
        write_manifest(folder, images.columns(placed.order, placed.splits))
        (folder / "classes.json").write_text(
            json.dumps(images.classes, ensure_ascii=False, indent=0) + "\n", encoding="utf-8"
        )
        _write_table(folder / "skipped.csv", broken)
        report = _report(dataset, remarks, broken, warned, alike)
        (folder / _REPORT).write_text(report, encoding="utf-8")
        dataset.write(folder / dataset.file_name())
    # Only now: a kill before it has the source loaded once more, and no change is missed.
    loaded.note(catalog.files)
    _errors_file(workspace).unlink(missing_ok=True)
    _tell(dataset, remarks, warned, alike, workspace)
    return dataset


def _alike(catalog: Catalog) -> list[str]:
    """The classes whose names look alike, a line for each group of them."""
    lines = []
    for group in similar.groups(catalog.labels):
        shown = [
            f"{label!r} ({counted(catalog.counts[label], 'image')}, {catalog.examples[label]} the "
            "first)"
            for label in group
        ]
        lines.append(f"{' and '.join(shown)} differ in {similar.difference(group)}")
    return lines


def _refuse_alike(alike: Sequence[str], params: DataParams) -> None:
    if alike and params.on_similar_classes == "fail":
        raise DataError(
            "\n  ".join(["names of classes look alike:", *_cut(alike)]),
            where=f"data.source: {params.source}, data.path: {params.path}",
            allowed="with data.on_similar_classes: fail, none",
            fix="give the images of one class one name (rename the folder, or the labels in the "
            "table); if they are different classes, set data.on_similar_classes to warn",
        )


def _cut(lines: Sequence[str]) -> list[str]:
    more = [f"... and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return [*lines[:_LISTED], *more]


def _stored(
    catalog: Catalog, folder: Path, survey: Survey, seen: SeenFiles
) -> tuple[StoredImages, list[Broken]]:
    images = StoredImages(natural_order(catalog.labels))
    broken: list[Broken] = []
    with ShardWriter(folder) as shards, progress("load", catalog.total) as bar:
        for position, sample in enumerate(catalog.samples(survey, seen), start=1):
            if isinstance(sample, Broken):
                broken.append(sample)
            else:
                images.add(sample, shards.append(sample.payload))
            if not position % _PROGRESS_EVERY:
                bar.advance(_PROGRESS_EVERY)
    return images, broken


def _judge(broken: Sequence[Broken], params: DataParams, workspace: Workspace) -> None:
    if not broken or params.on_corrupt == "skip":
        return
    table = _errors_file(workspace)
    with replacing_file(table) as temporary:
        _write_table(temporary, broken)
    lines = _cut([f"{image.name}: {image.reason}" for image in broken])
    raise DataError(
        "\n  ".join([f"{counted(len(broken), 'image')} cannot be used:", *lines]),
        where=f"all of them are listed in {table}",
        allowed=f"whole images ({KNOWN}) of at most {params.max_image_px} pixels",
        fix="mend or remove them, or set data.on_corrupt to skip to go on without them",
    )


def _errors_file(workspace: Workspace) -> Path:
    return workspace.var / "load-errors.csv"


@dataclass(frozen=True)
class _Remarks:
    """Groups of identical images in words, a line for each."""

    leaks: Sequence[str]
    conflicts: Sequence[str]


@dataclass(frozen=True)
class _Placed:
    """The images with their splits, in the manifest's order.

    Args:
        images: As they were read.
        splits: Of each, as its place in SPLITS, in the order in which they were read, (n,).
        order: Their positions in that order, in the manifest's, (n,).
    """

    images: StoredImages
    splits: NDArray[np.int8]
    order: NDArray[np.int64]

    def repeats(self) -> Repeats:
        """By places in the manifest."""
        images = self.images
        contents, given, labels = images.contents, images.given, images.labels
        return found(contents[self.order], given[self.order], labels[self.order])

    def counts(self) -> NDArray[np.int64]:
        """Images by split and label, (3, classes)."""
        classes = len(self.images.classes)
        pairs = self.splits.astype(np.int64) * classes + self.images.labels
        return np.bincount(pairs, minlength=len(SPLITS) * classes).reshape(len(SPLITS), classes)

    def described(self, repeats: Repeats) -> _Remarks:
        return _Remarks(
            leaks=[self._group(group) for group in repeats.leaks],
            conflicts=[self._group(group) for group in repeats.conflicts],
        )

    def _group(self, group: Sequence[int]) -> str:
        return " = ".join(self._image(int(self.order[at])) for at in group)

    def _image(self, position: int) -> str:
        images = self.images
        label, split = images.classes[images.labels[position]], SPLITS[self.splits[position]]
        return f"{images.name(position)} ({label}, {split})"


def _placed(images: StoredImages, params: Params) -> _Placed:
    given = images.given
    if len(images) and len(images.classes) > 1:
        splits = assigned(
            Images(images.contents, images.labels, given, images.classes),
            seed=params.seed,
            validation_fraction=params.data.validation_fraction,
            test_fraction=params.data.test_fraction,
        )
    else:
        splits = np.where(given == NO_SPLIT, SPLITS.index("train"), given).astype(np.int8)
    placed = _Placed(images, splits, images.order(splits))
    refuse_missing_classes(images.classes, placed.counts())
    return placed


def _refuse_leaks(remarks: _Remarks, params: DataParams) -> None:
    if not remarks.leaks or params.on_leak == "warn":
        return
    raise DataError(
        "\n  ".join([f"{counted(len(remarks.leaks), *_IN_SPLITS)}:", *_cut(remarks.leaks)]),
        where=f"data.source: {params.source}, data.path: {params.path}",
        allowed="with data.on_leak: fail, none",
        fix="remove all but one of each, or set data.on_leak to warn",
    )


def _dataset(
    source: str,
    placed: _Placed,
    catalog: Catalog,
    repeats: Repeats,
    broken: Sequence[Broken],
    white: WhiteLevels,
) -> Dataset:
    images = placed.images
    least, most = images.shapes.min(axis=0).tolist(), images.shapes.max(axis=0).tolist()
    counts = {
        split: dict(zip(images.classes, of_split.tolist(), strict=True))
        for split, of_split in zip(SPLITS, placed.counts(), strict=True)
    }
    names: tuple[Split, ...] = get_args(Split)
    return Dataset(
        source=source,
        digest=_digest(placed),
        classes=images.classes,
        counts={split: counts[split] for split in names},
        given_splits=tuple(split for split in names if split in catalog.given_splits),
        channels=tuple(np.unique(images.shapes[:, 2]).tolist()),
        min_height_px=least[0],
        max_height_px=most[0],
        min_width_px=least[1],
        max_width_px=most[1],
        corrupt=len(broken),
        duplicates=repeats.duplicates,
        leaks=len(repeats.leaks),
        conflicts=len(repeats.conflicts),
        white=white,
    )


def _digest(placed: _Placed) -> str:
    digest = hashlib.sha256()
    images = placed.images
    # As JSON, so that no label can be taken for another entry's end.
    end_of = cache(lambda label, split: json.dumps([images.classes[label], SPLITS[split]]).encode())
    for at in range(0, len(placed.order), _AT_ONCE):
        some = placed.order[at : at + _AT_ONCE]
        facts = (images.contents[some], images.labels[some], placed.splits[some])
        for content, label, split in zip(*(one.tolist() for one in facts), strict=True):
            digest.update(content + end_of(label, split))
    return digest.hexdigest()


def _write_table(path: Path, broken: Iterable[Broken]) -> None:
    write_csv(path, ("file", "reason"), ((image.name, image.reason) for image in broken))


def _report(
    dataset: Dataset,
    remarks: _Remarks,
    broken: Sequence[Broken],
    warned: Sequence[tuple[str, str]],
    alike: Sequence[str],
) -> str:
    counts = ", ".join(f"{dataset.total(split)} {split}" for split in SPLITS)
    paragraphs = [
        f"{counted(dataset.total(), 'image')} of "
        f"{counted(len(dataset.classes), 'class', 'classes')} from {dataset.source}: {counts}.\n"
        f"Digest {dataset.digest}.\n"
        f"{counted(dataset.duplicates, 'image repeats', 'images repeat')} an earlier one, pixel "
        "for pixel.",
        _section("The same image in more than one given split", remarks.leaks),
        _section("The same image under more than one label", remarks.conflicts),
        _section("Classes whose names look alike", alike),
        _section(
            "Skipped, since they cannot be used", (f"{one.name}: {one.reason}" for one in broken)
        ),
        _section(
            "Read, with a warning of the decoder",
            sorted({f"{name}: {text}" for name, text in warned}),
        ),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _section(title: str, lines: Iterable[str]) -> str:
    listed = list(lines)
    return "\n".join([f"{title}: {len(listed) or 'none'}", *(f"  {line}" for line in listed)])


def _tell(
    dataset: Dataset,
    remarks: _Remarks,
    warned: Sequence[tuple[str, str]],
    alike: Sequence[str],
    workspace: Workspace,
) -> None:
    report = workspace.loaded / _REPORT
    for words, groups in ((_IN_SPLITS, remarks.leaks), (_UNDER_LABELS, remarks.conflicts)):
        if groups:
            said = counted(len(groups), *words)
            _log.warning("%s; %s lists them: %s", said, report, groups[0])
    for line in alike:
        _log.warning("names of classes look alike: %s", line)
    if dataset.corrupt:
        skipped = counted(dataset.corrupt, "image was", "images were")
        _log.warning("%s skipped; %s lists them", skipped, report)
    if warned:
        files = len({name for name, _ in warned})
        read = counted(files, "image was", "images were")
        _log.warning("%s read with a decoder's warning; see %s", read, report)
