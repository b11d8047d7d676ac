"""Step ``load``: reads a source, validates it and splits it."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

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
from graftline.data.duplicates import Placed, Repeats, Stored, described, found
from graftline.data.shards import ShardWriter, write_manifest
from graftline.data.sources import similar
from graftline.data.sources.catalog import Broken, Catalog
from graftline.data.splits import Image, assigned, natural_order, refuse_missing_classes
from graftline.data.white_levels import Survey

_REPORT = "report.txt"
_IN_SPLITS = ("image stands in more than one split", "images stand in more than one split")
_UNDER_LABELS = ("image stands under more than one label", "images stand under more than one label")
_log = logging.getLogger("graftline.steps.load")
_LISTED = 50
_PROGRESS_EVERY = 256


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
        catalog = sources.read(params.data, workspace.root, Path(scratch))
        alike = _alike(catalog)
        _refuse_alike(alike, params.data)
        survey = Survey(params.data.white_level)
        stored, broken = _stored(catalog, folder, survey)
        _judge(broken, params.data, workspace)
        white = survey.judged()
        placed = _placed(stored, catalog, params)
        repeats = found(placed)
        classes = natural_order(catalog.labels)
        dataset = _dataset(params.data.source, classes, placed, catalog, repeats, broken, white)
        _refuse_leaks(repeats, params.data)
        write_manifest(folder, _columns(placed, classes))
        (folder / "classes.json").write_text(
            json.dumps(classes, ensure_ascii=False, indent=0) + "\n", encoding="utf-8"
        )
        _write_table(folder / "skipped.csv", broken)
        report = _report(dataset, repeats, broken, warned, alike)
        (folder / _REPORT).write_text(report, encoding="utf-8")
        dataset.write(folder / dataset.file_name())
    _errors_file(workspace).unlink(missing_ok=True)
    _tell(dataset, repeats, warned, alike, workspace)
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


def _stored(catalog: Catalog, folder: Path, survey: Survey) -> tuple[list[Stored], list[Broken]]:
    stored: list[Stored] = []
    broken: list[Broken] = []
    with ShardWriter(folder) as shards, progress("load", catalog.total) as bar:
        for position, sample in enumerate(catalog.samples(survey), start=1):
            if isinstance(sample, Broken):
                broken.append(sample)
            else:
                stored.append(
                    Stored(
                        sample.name,
                        sample.label,
                        sample.split,
                        sample.sha256,
                        sample.encoding,
                        shards.append(sample.payload),
                        (sample.height, sample.width, sample.channels),
                    )
                )
            if not position % _PROGRESS_EVERY:
                bar.advance(_PROGRESS_EVERY)
    return stored, broken


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


def _placed(stored: Sequence[Stored], catalog: Catalog, params: Params) -> list[Placed]:
    """The images with their splits, in the manifest's order."""
    if stored and len(catalog.labels) > 1:
        splits = assigned(
            [Image(image.sha256, image.label, image.split) for image in stored],
            seed=params.seed,
            validation_fraction=params.data.validation_fraction,
            test_fraction=params.data.test_fraction,
        )
    else:
        splits = [image.split or "train" for image in stored]
    placed = [Placed(image, split) for image, split in zip(stored, splits, strict=True)]
    refuse_missing_classes(catalog.labels, ((one.image.label, one.split) for one in placed))
    order = {split: position for position, split in enumerate(SPLITS)}
    return sorted(
        placed,
        key=lambda one: (order[one.split], one.image.sha256, one.image.label, one.image.name),
    )


def _refuse_leaks(repeats: Repeats, params: DataParams) -> None:
    if not repeats.leaks or params.on_leak == "warn":
        return
    lines = _cut([described(group) for group in repeats.leaks])
    raise DataError(
        "\n  ".join([f"{counted(len(repeats.leaks), *_IN_SPLITS)}:", *lines]),
        where=f"data.source: {params.source}, data.path: {params.path}",
        allowed="with data.on_leak: fail, none",
        fix="remove all but one of each, or set data.on_leak to warn",
    )


def _dataset(
    source: str,
    classes: Sequence[str],
    placed: Sequence[Placed],
    catalog: Catalog,
    repeats: Repeats,
    broken: Sequence[Broken],
    white: WhiteLevels,
) -> Dataset:
    counted = Counter((one.split, one.image.label) for one in placed)
    heights, widths, channels = zip(*{one.image.shape for one in placed}, strict=True)
    names: tuple[Split, ...] = get_args(Split)
    return Dataset(
        source=source,
        digest=_digest(placed),
        classes=tuple(classes),
        counts={split: {label: counted[split, label] for label in classes} for split in names},
        given_splits=tuple(split for split in names if split in catalog.given_splits),
        channels=tuple(sorted(set(channels))),
        min_height_px=min(heights),
        max_height_px=max(heights),
        min_width_px=min(widths),
        max_width_px=max(widths),
        corrupt=len(broken),
        duplicates=repeats.duplicates,
        leaks=len(repeats.leaks),
        conflicts=len(repeats.conflicts),
        white=white,
    )


def _digest(placed: Sequence[Placed]) -> str:
    digest = hashlib.sha256()
    # As JSON, so that no label can be taken for another entry's end.
    end_of = cache(lambda label, split: json.dumps([label, split]).encode())
    for one in placed:
        digest.update(one.image.sha256.encode() + end_of(one.image.label, one.split))
    return digest.hexdigest()


def _columns(placed: Sequence[Placed], classes: Sequence[str]) -> dict[str, Sequence[Any]]:
    label_of = {name: label for label, name in enumerate(classes)}
    images = [one.image for one in placed]
    shard, offset, length = zip(*(image.place for image in images), strict=True)
    height, width, channels = zip(*(image.shape for image in images), strict=True)
    return {
        "sha256": [image.sha256 for image in images],
        "label": [label_of[image.label] for image in images],
        "class": [image.label for image in images],
        "split": [one.split for one in placed],
        "source": [image.name for image in images],
        "encoding": [image.encoding for image in images],
        "shard": shard,
        "offset": offset,
        "length": length,
        "height": height,
        "width": width,
        "channels": channels,
    }


def _write_table(path: Path, broken: Iterable[Broken]) -> None:
    write_csv(path, ("file", "reason"), ((image.name, image.reason) for image in broken))


def _report(
    dataset: Dataset,
    repeats: Repeats,
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
        _section("The same image in more than one given split", map(described, repeats.leaks)),
        _section("The same image under more than one label", map(described, repeats.conflicts)),
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
    repeats: Repeats,
    warned: Sequence[tuple[str, str]],
    alike: Sequence[str],
    workspace: Workspace,
) -> None:
    report = workspace.loaded / _REPORT
    remarks = (
        (dataset.leaks, _IN_SPLITS, repeats.leaks),
        (dataset.conflicts, _UNDER_LABELS, repeats.conflicts),
    )
    for count, words, groups in remarks:
        if count:
            said = counted(count, *words)
            _log.warning("%s; %s lists them: %s", said, report, described(groups[0]))
    for line in alike:
        _log.warning("names of classes look alike: %s", line)
    if dataset.corrupt:
        skipped = counted(dataset.corrupt, "image was", "images were")
        _log.warning("%s skipped; %s lists them", skipped, report)
    if warned:
        files = len({name for name, _ in warned})
        read = counted(files, "image was", "images were")
        _log.warning("%s read with a decoder's warning; see %s", read, report)
