"""The record of the step ``preprocess``."""

from __future__ import annotations

from typing import ClassVar

from graftline.core.records.load import Split, WhiteLevels
from graftline.core.records.record import Record


class Preprocessed(Record):
    """``data/preprocessed/preprocessed.json``: the images as the model takes them."""

    lies_at: ClassVar[str] = "data/preprocessed/preprocessed.json"

    dataset_digest: str
    size_px: int
    classes: tuple[str, ...]
    counts: dict[Split, int]
    uniform_shape: tuple[int, int, int] | None
    """Height, width, channels if all images share them."""
    shrunk: int
    """Images that were larger than size_px in some direction."""
    white: WhiteLevels = WhiteLevels()
    """The data set's."""
    drawings: bool = False
    """The data set's; see :class:`graftline.core.records.load.Dataset`."""
