"""Makes every format that is asked for, and refuses all of them if one strays too far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from graftline.compute.cores import available_cores
from graftline.core.csv_files import write_csv
from graftline.core.errors import DataError, ExportError
from graftline.core.files import sha256_file, sha256_record
from graftline.core.params import ExportParams
from graftline.core.records import ExportedModel, ExportFormat, Exports, OriginalModel, Trained
from graftline.core.workspace import LITERT_FILE, Workspace
from graftline.data.shards import PackedImages
from graftline.formats.agreement import Agreement, FormatAnswers, answers
from graftline.formats.converters import make
from graftline.formats.exported_network import Network
from graftline.formats.runners import open_exported
from graftline.formats.speeds import ORIGINAL, FormatSpeed, FormatSpeeds
from graftline.network.keras_io import load_model
from graftline.network.opened_model import open_model
from graftline.network.runners.choosing import computing_of

DIFFERENCES = "differences.csv"
_KERAS_FILE = "model.keras"


def export_all(
    workspace: Workspace, section: ExportParams, device: str, folder: Path, report: Path
) -> Exports:
    """Writes and measures every format.

    Args:
        workspace: Where the trained model and the preprocessed images lie.
        section: What is asked for.
        device: ``compute.device``, on which the original answers.
        folder: Where the files go.
        report: Where ``differences.csv`` goes: each test image that one of them names otherwise.

    Raises:
        ExportError: If a format cannot be made, or if one strays too far from the original.
        MissingOutputError: If an output of an earlier step is absent.
        DataError: If there is no test image, or none to calibrate by.
    """
    trained = Trained.read_in(workspace)
    images = PackedImages.open(workspace.preprocessed)
    test = _indices(images, "test", workspace)
    network = _network(workspace, trained, images, section.calibration_images)
    source = workspace.trained / LITERT_FILE
    computing = computing_of(device, trained.precision)
    reference = answers(
        lambda: open_model(workspace.trained, computing, trained.size_px), images, test, ORIGINAL
    )
    made = {
        format: _made(network, format, device, folder, images, test)
        for format in get_args(ExportFormat)
        if format in section.formats
    }
    labels = images.labels[test]
    compared = {
        format: Agreement(labels, reference.predicted, one.answers.predicted, trained.classes)
        for format, one in made.items()
    }
    _check(section, compared)
    _write_differences(report / DIFFERENCES, images.names[test], compared)
    original = OriginalModel(
        sha256=sha256_file(source),
        size_bytes=source.stat().st_size,
        accuracy=float((reference.predicted == labels).mean()),
        test_images=len(test),
        weight_digest=trained.weight_digest,
    )
    measured = {ORIGINAL: _speed(original.sha256, reference)}
    measured |= {format: _speed(one.sha256, one.answers) for format, one in made.items()}
    FormatSpeeds(cores=available_cores(), measured=measured).write(FormatSpeeds.path_in(workspace))
    exported = tuple(_described(format, made[format], compared[format]) for format in made)
    return Exports(original=original, exported=exported)


@dataclass(frozen=True)
class _Made:
    path: Path
    sha256: str
    size_bytes: int
    answers: FormatAnswers


def _made(
    network: Network,
    format: ExportFormat,
    device: str,
    folder: Path,
    images: PackedImages,
    test: NDArray[np.int64],
) -> _Made:
    path = make(network, format, folder)
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    digests = {one.relative_to(folder).as_posix(): sha256_file(one) for one in files}
    return _Made(
        path=path,
        sha256=sha256_record(digests) if path.is_dir() else next(iter(digests.values())),
        size_bytes=sum(one.stat().st_size for one in files),
        answers=answers(lambda: open_exported(format, path, device), images, test, format),
    )


def _described(format: ExportFormat, made: _Made, compared: Agreement) -> ExportedModel:
    drop, name = compared.largest_drop
    return ExportedModel(
        format=format,
        path=made.path.name,
        sha256=made.sha256,
        size_bytes=made.size_bytes,
        accuracy=compared.accuracy,
        agreement=compared.agreement,
        largest_drop=drop,
        largest_drop_class=name,
        other_answers=compared.other_answers,
    )


def _check(section: ExportParams, compared: Mapping[ExportFormat, Agreement]) -> None:
    objections = {
        format: comparison.objections(
            getattr(section.min_agreement, format), getattr(section.max_class_drop, format)
        )
        for format, comparison in compared.items()
    }
    refused = {format: found for format, found in objections.items() if found}
    if not refused:
        return
    told = [f"{format}: {text}" for format, found in refused.items() for text in found]
    raise ExportError(
        "an exported model differs too much from the original; the earlier exports are kept:\n  "
        + "\n  ".join(told),
        where=", ".join(f"export.formats: {format}" for format in refused),
        allowed="\n".join(
            f"{format}: export.min_agreement {getattr(section.min_agreement, format):g}, "
            f"export.max_class_drop {getattr(section.max_class_drop, format):g}"
            for format in refused
        ),
        fix="leave the format out, raise export.calibration_images (for litert_int8), or allow "
        "more; docs/exports.md tells what each format loses",
    )


def _network(
    workspace: Workspace, trained: Trained, images: PackedImages, most_images: int
) -> Network:
    train = _indices(images, "train", workspace)
    # Evenly over the whole split, which may be sorted by class.
    chosen = train[np.linspace(0, len(train) - 1, min(most_images, len(train))).astype(np.int64)]

    def calibration() -> Iterator[NDArray[np.uint8]]:
        for index in chosen:
            yield images.image(int(index))[np.newaxis]

    return Network(load_model(workspace.trained / _KERAS_FILE), trained, calibration)


def _indices(images: PackedImages, split: str, workspace: Workspace) -> NDArray[np.int64]:
    found = images.indices(split)
    if not len(found):
        raise DataError(
            f"the {split} split has no image",
            where=str(workspace.preprocessed),
            fix=f"add {split} images to the source, or leave export.formats empty",
        )
    return found


def _write_differences(
    path: Path, names: NDArray[np.object_], compared: Mapping[ExportFormat, Agreement]
) -> None:
    rows = []
    for format, one in compared.items():
        for row in np.flatnonzero(one.exported != one.original):
            labels = (one.labels[row], one.original[row], one.exported[row])
            rows.append((format, names[row], *(one.classes[at] for at in labels)))
    write_csv(path, ("format", "image", "is", "original", "exported"), rows)


def _speed(sha256: str, given: FormatAnswers) -> FormatSpeed:
    return FormatSpeed(
        sha256=sha256,
        images_per_second=round(given.images_per_second, 1),
        load_s=round(given.load_s, 3),
        answered_by=given.answered_by,
    )
