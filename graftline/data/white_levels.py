"""White in images of more than 8 bits: one rule for a whole data set and its models.

A camera's 12 bits come in files of 16, and a single image cannot tell whether it is dark or has
fewer bits. The data set can: where no image of it reaches the upper half of what its file can hold,
the rule has to be told (``data.white_level``), and is never guessed image by image.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from graftline.core.counts import counted
from graftline.core.errors import DataError
from graftline.core.records import WhiteLevels

FLOAT = "floating-point"
_USUAL = {255: 8, 1023: 10, 4095: 12, 16383: 14, 65535: 16, (1 << 24) - 1: 24}


class DeepImage(NamedTuple):
    """What an image of more than 8 bits holds, before it is brought to 8."""

    kind: str
    """As in ``16-bit``, ``signed 16-bit``, ``floating-point``."""
    full: float
    """The largest value of this kind; of floating-point numbers 1."""
    largest: float
    """The largest raw value that can be seen."""

    @property
    def is_float(self) -> bool:
        """Whether its values have no largest one by nature."""
        return self.kind == FLOAT

    @property
    def in_upper_half(self) -> bool:
        """Whether it uses the highest bit of its container."""
        return self.full / 2 < self.largest <= self.full


WhiteRule = Callable[[DeepImage], float]
"""Gives the raw value that is white in an image."""


def rule_of(levels: WhiteLevels) -> WhiteRule:
    """The rule of a data set that has been loaded, or of a model that was trained on it.

    The rule raises a :class:`DataError` for an image of which it cannot tell: one of a kind that
    the data set did not hold and that leaves the highest bit of its container unused, or one with a
    value above white. Its ``what`` can follow a file's name.
    """

    def white(image: DeepImage) -> float:
        known = image.kind in levels.kinds
        if levels.level is not None:
            if levels.kinds and image.is_float != (FLOAT in levels.kinds):
                raise DataError(_unlike(image, levels))
            return _given(levels.level, image)
        if known and image.largest <= image.full:
            return image.full
        if not known and not image.is_float and image.in_upper_half:
            return image.full
        raise DataError(_unlike(image, levels))

    return white


NOTHING_KNOWN = rule_of(WhiteLevels())
"""The rule where no data set tells."""


Seen = dict[str, tuple[int, float, float]]
"""By kind of image: how many there were, the largest value of the kind, and the largest seen."""


class Survey:
    """The rule while a data set is read, and what its images hold. Threads may share it.

    Args:
        level: ``data.white_level``.
    """

    def __init__(self, level: float | None) -> None:
        self.level = level
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._largest: dict[str, DeepImage] = {}

    @property
    def seen(self) -> Seen:
        """What was seen so far."""
        return {
            kind: (self._counts[kind], image.full, image.largest)
            for kind, image in self._largest.items()
        }

    def add(self, seen: Seen) -> None:
        """Adds what another survey has seen, of other images of the same data set."""
        for kind, (count, full, largest) in seen.items():
            self._count(DeepImage(kind, full, largest), count)

    def white(self, image: DeepImage) -> float:
        """The raw value that is white, if :meth:`judged` finds nothing against it.

        Raises:
            DataError: If the image has a value above ``data.white_level``.
        """
        white = image.full if self.level is None else _given(self.level, image)
        self._count(image, 1)
        return white

    def _count(self, image: DeepImage, count: int) -> None:
        with self._lock:
            self._counts[image.kind] = self._counts.get(image.kind, 0) + count
            self._largest[image.kind] = max(
                image, self._largest.get(image.kind, image), key=lambda one: one.largest
            )

    def judged(self) -> WhiteLevels:
        """The data set's rule, once all its images are read.

        Raises:
            DataError: If the images leave open what is white.
        """
        kinds = tuple(sorted(self._counts))
        if self.level is None:
            doubtful = [kind for kind in kinds if not self._largest[kind].in_upper_half]
            if doubtful:
                raise self._doubt(doubtful)
        elif FLOAT in kinds and len(kinds) > 1:
            raise DataError(
                "images of more than 8 bits are of two natures, and one white level cannot serve "
                f"both: {self._told(kinds)}",
                where=f"data.white_level: {self.level:.10g}",
                allowed="floating-point images alone, or whole numbers alone",
                fix="save the floating-point images as 16-bit PNG, or leave them out",
            )
        return WhiteLevels(level=self.level, kinds=kinds)

    def likely(self) -> tuple[float, str] | None:
        """A white level for images that leave it open, and why; None where they do not.

        It is the smallest usual one that none of them exceeds. Images that are dark have another.
        """
        found = list(self._largest.values())
        if self.level is not None or all(image.in_upper_half for image in found):
            return None
        largest, whole, choices = self._choices()
        otherwise = f"; {whole:.10g} if the images are dark" if whole else ""
        return next(iter(choices), largest), f"the largest value seen is {largest:.10g}{otherwise}"

    def _choices(self) -> tuple[float, float, dict[float, str]]:
        """The largest value seen, what whole numbers can hold, and levels with what they mean."""
        found = list(self._largest.values())
        largest = max(image.largest for image in found)
        whole = max((image.full for image in found if not image.is_float), default=0)
        fitting = [level for level in _USUAL if level >= largest and (level < whole or not whole)][
            :3
        ]
        choices: dict[float, str] = {level: f"{_USUAL[level]} bits" for level in fitting}
        if whole:
            choices[whole] = "all that the files can hold; the images are dark"
        elif largest <= 1:
            choices = {1: "the images are dark", **choices}
        return largest, whole, choices

    def _doubt(self, doubtful: list[str]) -> DataError:
        largest, _, levels = self._choices()
        choices = [f"{level:.0f} ({meaning})" for level, meaning in levels.items()]
        return DataError(
            "the images of more than 8 bits leave open what is white, and would come out nearly "
            f"black by a wrong guess: {self._told(doubtful)}",
            where="data.white_level: null",
            allowed="the raw value that is white, for all images of more than 8 bits alike; null "
            "where the brightest of them uses the upper half of what its file can hold (of "
            "floating-point values: of 0 to 1)",
            fix=f"set data.white_level to {' or '.join(choices) or f'{largest:.10g} or more'}",
        )

    def _told(self, kinds: list[str] | tuple[str, ...]) -> str:
        return "; ".join(
            f"{counted(self._counts[kind], f'{kind} image')}, the largest value {largest:.10g} "
            f"where {full:.10g} would be white"
            for kind in kinds
            for _, full, largest in [self._largest[kind]]
        )


def _given(level: float, image: DeepImage) -> float:
    # A 12-bit container has no 65535: its own largest value is the brightest that it can mean.
    white = level if image.is_float else min(level, image.full)
    if image.largest > white:
        raise DataError(
            f"has the raw value {image.largest:.10g}, above white, which is {white:.10g} "
            f"(data.white_level: {level:.10g})"
        )
    return white


def _unlike(image: DeepImage, levels: WhiteLevels) -> str:
    held = ", ".join(levels.kinds) or "8-bit"
    return (
        f"is a {image.kind} image whose largest value is {image.largest:.10g}, and what is white "
        f"in it cannot be told: the training images were {held} ones"
        + ("" if levels.level is None else f" with white at {levels.level:.10g}")
        + "; save it with 8 bits, or train with data.white_level set"
    )
