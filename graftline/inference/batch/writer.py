"""Image files in, one Parquet file out: read ahead, run, written part by part."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.compute import Arrays, map_chunks, ordered_map, refuse_unseen, resources_of
from graftline.compute.devices import settled_device
from graftline.core.code_state import code_state
from graftline.core.errors import DataError, UserError
from graftline.core.files import replacing_file, sha256_file, sha256_record, write_text
from graftline.core.locks import output_lock
from graftline.core.params import MAX_IMAGE_PX
from graftline.core.progress import Bar, progress
from graftline.core.records import Record, Trained
from graftline.core.workspace import LITERT_FILE, Workspace
from graftline.data.decoding import Pixels, collected_warnings
from graftline.data.image_files import read_image, told_left_out
from graftline.data.resize import shrink
from graftline.evaluation.feature_reference import FeatureSample, chosen
from graftline.evaluation.predictor import Predictor
from graftline.inference.batch.listing import Listing, write_listing
from graftline.inference.batch.rows import Labels, Row, metadata, sampled_rows, with_features
from graftline.inference.inputs import Input, inputs
from graftline.inference.model_choice import ChosenModel
from graftline.network.runners.choosing import computing_of

PART_ROWS = 2048
UNSURE_BELOW = 0.5
"""An answer whose probability is less counts as unsure."""
_MOST_SAMPLED = 1000
_CHUNK_FILES = 32
_CHUNK_BYTES = 4 << 20
Read = tuple[Row, Pixels | None]


class Batch(Record):
    """What came of some predictions."""

    predictions: str
    """The Parquet file."""
    model: str
    model_version: str
    images: int
    """Rows, those without an answer too."""
    unread: int
    """Files that could not be read; each has its reason."""
    left_out: dict[str, int]
    """Files in folders that are no images, by the ending of their names; they have no row."""
    labels: dict[str, int]
    """Images by label, the model's classes in their order."""
    unsure: int
    """Answers with a probability below :data:`UNSURE_BELOW`."""
    resumed: int
    """Rows that an earlier run, which did not end, had written."""
    seconds: float
    """What the other rows took, from the first file to the last part."""

    @property
    def images_per_s(self) -> float:
        """Of the rows that were computed now."""
        return (self.images - self.resumed) / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Work:
    """The folder beside the predictions where their parts lie until all is done."""

    out: Path

    @property
    def folder(self) -> Path:
        """Hidden, and named after the file."""
        return self.out.with_name(f".{self.out.name}.parts")

    def part(self, number: int) -> Path:
        """The file of one part."""
        return self.folder / f"part-{number:06d}.parquet"

    def parts(self) -> list[Path]:
        """The parts that are there, in order."""
        return sorted(self.folder.glob("part-*.parquet"))

    def take_up(self, key: str) -> None:
        """Keeps the parts that were written for ``key``, and removes those of anything else."""
        file = self.folder / "key"
        if file.is_file() and file.read_text(encoding="utf-8") == key:
            return
        file.unlink(missing_ok=True)
        for part in self.parts():
            part.unlink()
        write_text(file, key)


@contextmanager
def held(workspace: Workspace, out: Path) -> Iterator[None]:
    """Holds the predictions' place, and removes the parts once all has gone well.

    Raises:
        PipelineBusyError: If another process writes the same predictions.
        UserError: If nothing can be written there.
    """
    work = Work(out)
    try:
        work.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"nothing can be written here: {error.strerror}",
            where=str(out.parent),
            fix="name another file with --out",
        ) from error
    if out.is_dir():
        raise UserError(f"{out} is a folder", where="--out", fix="name a file: --out x.parquet")
    with output_lock(workspace, out):
        yield
        shutil.rmtree(work.folder, ignore_errors=True)


def predict_files(
    model: ChosenModel,
    arguments: Sequence[str],
    out: Path,
    max_image_px: int = MAX_IMAGE_PX,
    part_rows: int = PART_ROWS,
    device: str = "cpu",
) -> Batch:
    """Predicts files of any number; call it within :func:`held`.

    Args:
        model: What predicts.
        arguments: See :func:`graftline.inference.inputs.inputs`.
        out: The Parquet file; it appears when all is predicted, and an earlier one stays till then.
        max_image_px: Images of more pixels are not decoded.
        part_rows: Rows that are written at once, and lost if the run is killed meanwhile.
        device: ``compute.device``.

    Raises:
        DataError: If an argument is not there, or there are no images.
        ParamsError: If a GPU is asked for, and there is none.
        StorageFullError: If the disk is full.
    """
    if any(Path(one).resolve() == out.resolve() for one in arguments):
        raise UserError("the predictions would replace what is to be predicted", where=str(out))
    # Here, and not by each worker for itself: a GPU's last digits are others.
    device = settled_device(device)
    work = Work(out)
    left_out: Counter[str] = Counter()
    listing = write_listing(inputs(arguments, left_out), work.folder / "inputs.parquet", part_rows)
    if not listing.count:
        told = f": {told_left_out(left_out)}" if left_out else ""
        raise DataError(f"there are no images here{told}", where=", ".join(map(str, arguments)))
    key = _key(model, listing, max_image_px, device)
    work.take_up(key)
    missing = [part for part in range(listing.parts) if not work.part(part).is_file()]
    began_s = time.perf_counter()
    seen = tuple(path.absolute() for path in map(Path, arguments) if path.exists())
    writing = Writing(model, listing, work, max_image_px, seen, device)
    with Predictor(Path(model.folder), device) as predictor:
        labels = Labels(predictor.classes, model.name, model.version)
        _write(writing, predictor, missing)
    seconds = time.perf_counter() - began_s
    counts = _merge(work, listing, labels, {"key": key, **model.model_dump(exclude={"folder"})})
    return Batch(
        predictions=str(out),
        model=model.name,
        model_version=model.version,
        images=listing.count,
        left_out=dict(left_out),
        unread=listing.count - sum(counts.labels.values()),
        labels={name: counts.labels[name] for name in labels.classes},
        unsure=counts.unsure,
        resumed=listing.count - sum(map(listing.size, missing)),
        seconds=seconds,
    )


def sample(out: Path, classes: Sequence[str]) -> FeatureSample | None:
    """At most 1 000 of the images with their features; None if the model gives none.

    Args:
        out: The predictions, still held.
        classes: The model's.
    """
    return sampled_rows(Work(out).parts(), classes)


@dataclass(frozen=True)
class Writing:
    """Predicts and writes parts, in whichever process.

    Args:
        model: What predicts.
        listing: What is predicted.
        work: Where the parts go.
        max_image_px: Images of more pixels are not decoded.
        seen: Where the images lie. A process that does not see them would take them for unreadable.
        device: What the model runs on: cpu or gpu.
    """

    model: ChosenModel
    listing: Listing
    work: Work
    max_image_px: int
    seen: tuple[Path, ...]
    device: str

    @contextmanager
    def opened(self) -> Iterator[Callable[[int], Arrays]]:
        """Gives the function that writes a part; ``untold``: rows that no bar was told of."""
        refuse_unseen([*self.seen, self.work.folder, Path(self.model.folder)])
        with Predictor(Path(self.model.folder), self.device) as predictor, collected_warnings():
            yield self.function(predictor, None)

    def function(self, predictor: Predictor, bar: Bar | None) -> Callable[[int], Arrays]:
        """The function, where the model is open already; the bar is told of each row."""
        sampled = np.zeros(self.listing.count, bool)
        sampled[chosen(np.arange(self.listing.count), _MOST_SAMPLED, seed=0)] = True
        return partial(_write_part, self, predictor, sampled, bar)


def _write(writing: Writing, predictor: Predictor, parts: Sequence[int]) -> None:
    rows = sum(map(writing.listing.size, parts))
    with progress("predict", rows) as bar, collected_warnings():
        here = writing.function(predictor, bar)
        # Two at once: files of the next are read while the end of this one is run.
        needed = resources_of(writing.device)
        written = map_chunks(
            "parts", writing, parts, here=here, at_once=2, keep=False, resources=needed
        )
        for _, arrays in written:
            bar.advance(int(arrays["untold"]))


def _write_part(
    writing: Writing, predictor: Predictor, sampled: NDArray[np.bool_], bar: Bar | None, part: int
) -> Arrays:
    import pyarrow.parquet as pq

    listing = writing.listing
    first, size = listing.first(part), listing.size(part)
    rows: list[Row] = []

    def readable() -> Iterator[Pixels]:
        for row, pixels in _reads(listing.read([part]), predictor, writing.max_image_px):
            rows.append(row)
            if bar is not None:
                bar.advance()
            if pixels is not None:
                yield pixels

    features = None
    if predictor.feature_dim is None:
        probabilities = predictor.probabilities(readable())
    else:
        probabilities, features = predictor.probabilities_and_features(readable())
    table = Labels(predictor.classes, writing.model.name, writing.model.version).table(
        rows, probabilities
    )
    if features is not None:
        here = sampled[first : first + size]
        read = np.array([row.error is None for row in rows], bool)
        table = with_features(table, here & read, features[here[read]])
    with replacing_file(writing.work.part(part)) as temporary:
        pq.write_table(table, temporary, row_group_size=len(rows))
    return {"untold": np.array(size if bar is None else 0)}


def _reads(rows: Iterator[Input], predictor: Predictor, max_image_px: int) -> Iterator[Read]:
    fitting = _CHUNK_BYTES // (predictor.size_px * predictor.size_px * 3)
    count = max(1, min(_CHUNK_FILES, fitting))

    def chunks() -> Iterator[list[Input]]:
        while chunk := list(islice(rows, count)):
            yield chunk

    def read(chunk: list[Input]) -> list[Read]:
        return [_read(row, predictor, max_image_px) for row in chunk]

    for chunk in ordered_map(read, chunks()):
        yield from chunk


def _read(row: Input, predictor: Predictor, max_image_px: int) -> Read:
    if row.file is None:
        return Row(row.name, None, row.error), None
    read = read_image(row.file, max_image_px, predictor.white, row.within)
    pixels = None if read.pixels is None else shrink(read.pixels, predictor.size_px)
    return Row(row.name, read.sha256, read.error), pixels


@dataclass(frozen=True)
class _Counts:
    labels: Counter[str]
    unsure: int


def _merge(work: Work, listing: Listing, labels: Labels, known: dict[str, Any]) -> _Counts:
    """Brings the parts together, one in memory at a time."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    schema = labels.schema()
    counts: Counter[str] = Counter()
    unsure = 0
    with (
        replacing_file(work.out) as temporary,
        pq.ParquetWriter(temporary, schema.with_metadata(metadata(known))) as writer,
    ):
        for part in range(listing.parts):
            with pq.ParquetFile(work.part(part)) as file:
                table = file.read(columns=schema.names)
            writer.write_table(table, row_group_size=len(table))
            counts.update(label for label in table["label"].to_pylist() if label is not None)
            unsure += pc.sum(pc.less(table["probability"], UNSURE_BELOW)).as_py() or 0
    return _Counts(counts, unsure)


def _key(model: ChosenModel, listing: Listing, max_image_px: int, device: str) -> str:
    """What the rows depend on: parts of anything else must not be taken up."""
    folder = Path(model.folder)
    file_digest = sha256_file(folder / LITERT_FILE)
    trained = Trained.read(folder / Trained.file_name())
    white, computing = trained.white.model_dump(), str(computing_of(device, trained.precision))
    made_by = code_state("graftline/inference/batch/writer.py", trains=False)
    facts = [
        made_by,
        listing.digest,
        listing.part_rows,
        max_image_px,
        file_digest,
        white,
        computing,
    ]
    return sha256_record([*facts, model.model_dump(exclude={"folder"})])
