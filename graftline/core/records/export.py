"""The record of the step ``export``."""

from __future__ import annotations

from typing import ClassVar, Literal

from graftline.core.records.record import Record

ExportFormat = Literal["litert_float32", "litert_float16", "litert_int8", "saved_model", "onnx"]


class ExportedModel(Record):
    """One file, or folder, that was made of the trained model, as the whole test split found it."""

    format: ExportFormat
    path: str
    """Within ``models/exports/``."""
    sha256: str
    """Of the file; of a folder, over its files' names and their own."""
    size_bytes: int
    accuracy: float
    agreement: float
    """Share of the test images that get the same label as from ``model.tflite``."""
    largest_drop: float
    """By how much the recall of the class falls that loses the most; 0 if none loses."""
    largest_drop_class: str | None
    other_answers: dict[str, int]
    """Test images of each class, by name, whose label differs; classes without any are left out."""


class OriginalModel(Record):
    """``models/trained/model.tflite``, which exported models are held against."""

    sha256: str
    size_bytes: int
    accuracy: float
    test_images: int
    weight_digest: str
    """As in ``trained.json``."""


class Exports(Record):
    """``models/exports/exports.json``: the exported models, and the original beside them."""

    lies_at: ClassVar[str] = "models/exports/exports.json"

    original: OriginalModel | None
    """Null where nothing was to be exported, so that nothing was measured."""
    exported: tuple[ExportedModel, ...]
