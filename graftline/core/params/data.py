"""The section ``data``: what ``load`` reads and how it splits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from graftline.core.params.fields import FileName, Fraction, HomePath, Section

SOURCES_WITH_PATH = ("idx", "npz", "folder", "manifest")

NO_FILES = "data/no-files"
"""What stands in ``params.yaml`` for a path of null, which DVC cannot take as a dependency."""

TABLE_ENDINGS = (".csv", ".tsv", ".parquet")
"""How the names of tables end, in small letters."""

MAX_IMAGE_PX = 50_000_000
"""Of an image, width x height, where ``data.max_image_px`` says nothing else."""


def _path_or_none(given: Any) -> Any:
    return None if given == NO_FILES else given


class DataParams(Section):
    """The images that ``load`` reads, and how it splits them."""

    source: Literal["mnist-5k", "mnist", "idx", "npz", "folder", "manifest"] = Field(
        description="The kind of image source."
    )
    path: Annotated[
        Annotated[HomePath, Field(min_length=1)] | None, BeforeValidator(_path_or_none)
    ] = Field(
        default=None,
        description="A folder (idx, folder, manifest) or file (npz), absolute, from ~ on, or "
        f"relative to the checkout. {NO_FILES} or null for the sources that need none; DVC wants "
        "the former, and flows write it.",
    )
    manifest: FileName = Field(
        default="manifest.csv",
        description="For source manifest: the table's name inside path (.csv, .tsv or .parquet). "
        "CSV may be parted by commas, semicolons or tabs.",
    )
    on_corrupt: Literal["fail", "skip"] = Field(
        default="fail", description="What to do with images that cannot be decoded."
    )
    on_leak: Literal["warn", "fail"] = Field(
        default="warn", description="What to do with identical images across given splits."
    )
    on_similar_classes: Literal["fail", "warn"] = Field(
        default="fail",
        description="What to do with classes whose names look alike: cat and Cat, 1 and 1.0, or "
        "names that differ in spaces or in signs that cannot be seen.",
    )
    validation_fraction: Fraction = Field(
        default=0.1,
        description="Share of the images that are not test, for validation, if the source has no "
        "validation split of its own.",
    )
    test_fraction: Fraction = Field(
        default=0.2,
        description="Share of all images, for test, if the source has no test split of its own.",
    )
    max_image_px: int = Field(
        default=MAX_IMAGE_PX,
        ge=1,
        description="Images of more pixels (width x height) are refused.",
    )
    white_level: float | None = Field(
        default=None,
        gt=0,
        description="The raw value that is white in images of more than 8 bits, as in 4095 for 12 "
        "bits in 16-bit files. Null: all that the file can hold (of floating-point values: 1), "
        "refused where no image uses the upper half of it.",
    )
    max_images: int = Field(
        default=2_000_000,
        ge=1,
        description="Sources of more images are refused; each takes about 1 kB of memory in load.",
    )

    @model_validator(mode="after")
    def _path_matches_source(self) -> DataParams:
        if self.source in SOURCES_WITH_PATH and self.path is None:
            raise ValueError(
                f"source {self.source} needs data.path, which is null (./null is a folder of that "
                "name)"
            )
        if self.source not in SOURCES_WITH_PATH and self.path is not None:
            raise ValueError(
                f"source {self.source} takes no data.path (got {self.path!r}); set it to {NO_FILES}"
            )
        if self.source == "manifest" and not self.manifest.lower().endswith(TABLE_ENDINGS):
            raise ValueError(
                f"data.manifest must end in .csv, .tsv or .parquet, and is {self.manifest!r}; a "
                "spreadsheet saves its table as CSV"
            )
        return self
