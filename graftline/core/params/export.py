"""The section ``export``: other formats, and how far they may differ."""

from __future__ import annotations

from pydantic import Field, model_validator

from graftline.core.params.fields import Section, Share
from graftline.core.records.export import ExportFormat


class Agreements(Section):
    """By format: the least share of test images that must get the same label as the original."""

    litert_float32: Share = Field(default=0.999, description="Least agreement of litert_float32.")
    litert_float16: Share = Field(default=0.99, description="Least agreement of litert_float16.")
    litert_int8: Share = Field(default=0.97, description="Least agreement of litert_int8.")
    saved_model: Share = Field(default=0.999, description="Least agreement of saved_model.")
    onnx: Share = Field(default=0.999, description="Least agreement of onnx.")


class ClassDrops(Section):
    """By format: by how much a class's recall may fall below the original's."""

    litert_float32: Share = Field(default=0.0, description="Largest drop of litert_float32.")
    litert_float16: Share = Field(default=0.02, description="Largest drop of litert_float16.")
    litert_int8: Share = Field(default=0.1, description="Largest drop of litert_int8.")
    saved_model: Share = Field(default=0.0, description="Largest drop of saved_model.")
    onnx: Share = Field(default=0.0, description="Largest drop of onnx.")


class ExportParams(Section):
    """Which further files are made of the trained model, and how near to it they must stay."""

    formats: tuple[ExportFormat, ...] = Field(
        default=(), description="What is exported; with none the step does nothing."
    )
    calibration_images: int = Field(
        default=200,
        ge=1,
        le=100_000,
        description="For litert_int8: training images from which the ranges of all values are "
        "taken, at most.",
    )
    min_agreement: Agreements = Field(
        default=Agreements(),
        description="Share of the test images that must get the same label as from the original. "
        "One may always differ: of few it would be a large share.",
    )
    max_class_drop: ClassDrops = Field(
        default=ClassDrops(),
        description="By how much the recall of a class may fall. One image may always be lost.",
    )

    @model_validator(mode="after")
    def _each_format_once(self) -> ExportParams:
        if len(set(self.formats)) < len(self.formats):
            raise ValueError(f"export.formats names one twice: {', '.join(self.formats)}")
        return self
