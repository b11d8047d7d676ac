"""The record of the step ``load``."""

from __future__ import annotations

from typing import ClassVar, Literal

from graftline.core.records.record import Record

Split = Literal["train", "validation", "test"]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_LARGEST_DRAWING_PX = 64


class WhiteLevels(Record):
    """What is white in images of more than 8 bits; see :mod:`graftline.data.white_levels`.

    It travels from ``load`` to the trained model, so that every later image is read by the rule of
    the images that the model was trained on.
    """

    level: float | None = None
    """``data.white_level`` as it was; null: all that the image's own kind can hold."""
    kinds: tuple[str, ...] = ()
    """The kinds of such images that the data set holds, as in ``16-bit``."""


class Dataset(Record):
    """``data/loaded/dataset.json``: what ``load`` found."""

    lies_at: ClassVar[str] = "data/loaded/dataset.json"

    source: str
    digest: str
    """SHA-256 over content, label and split of every image, in the manifest's order."""
    classes: tuple[str, ...]
    """Class names; a label is an index into them."""
    counts: dict[Split, dict[str, int]]
    """Images by split and class name."""
    given_splits: tuple[Split, ...]
    """The splits that came from the source itself; the others were generated."""
    channels: tuple[int, ...]
    """The channel counts that occur: 1, 3 or both."""
    min_height_px: int
    max_height_px: int
    min_width_px: int
    max_width_px: int
    corrupt: int
    """Images that were skipped since they could not be decoded."""
    duplicates: int
    """Images that repeat an earlier one, pixel for pixel."""
    leaks: int
    """Different images that stand in more than one given split."""
    conflicts: int
    """Different images that stand under more than one label."""
    white: WhiteLevels = WhiteLevels()
    """How images of more than 8 bits are read."""

    @property
    def drawings(self) -> bool:
        """Whether they are what one draws with a mouse: all of them grey, and as small as digits.

        Photographs and scans are neither.
        """
        largest_px = max(self.max_height_px, self.max_width_px)
        return self.channels == (1,) and largest_px <= _LARGEST_DRAWING_PX

    @property
    def most_frequent(self) -> str:
        """The class of the most training images; of several, the first."""
        counts = self.counts["train"]
        return max(self.classes, key=lambda name: counts.get(name, 0))

    def total(self, split: Split | None = None) -> int:
        """The number of images in one split, or in all."""
        splits = SPLITS if split is None else (split,)
        return sum(sum(self.counts.get(name, {}).values()) for name in splits)
