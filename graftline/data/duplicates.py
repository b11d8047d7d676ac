"""Images that occur more than once: copies, copies across given splits, copies under two labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from graftline.core.records import Split


class Stored(NamedTuple):
    """An image that lies in a shard, before it is known which split it goes to."""

    name: str
    label: str
    split: Split | None
    """The source's own, if it has any."""
    sha256: str
    encoding: str
    place: tuple[int, int, int]
    """Shard, offset, length."""
    shape: tuple[int, int, int]
    """Height, width, channels."""


class Placed(NamedTuple):
    """An image with the split that it goes to."""

    image: Stored
    split: Split


@dataclass(frozen=True)
class Repeats:
    """What occurs more than once; each group holds all images of one content.

    Args:
        duplicates: How many images repeat an earlier one.
        leaks: Groups that stand in more than one of the source's own splits.
        conflicts: Groups that stand under more than one label.
    """

    duplicates: int
    leaks: Sequence[Sequence[Placed]]
    conflicts: Sequence[Sequence[Placed]]


def found(placed: Sequence[Placed]) -> Repeats:
    """Finds identical images by their content's hash."""
    by_content: dict[str, list[Placed]] = defaultdict(list)
    for one in placed:
        by_content[one.image.sha256].append(one)
    repeated = [group for group in by_content.values() if len(group) > 1]
    return Repeats(
        duplicates=len(placed) - len(by_content),
        leaks=[group for group in repeated if len({one.image.split for one in group}) > 1],
        conflicts=[group for group in repeated if len({one.image.label for one in group}) > 1],
    )


def described(group: Sequence[Placed]) -> str:
    """A group in one line: each image's name, label and split."""
    return " = ".join(f"{one.image.name} ({one.image.label}, {one.split})" for one in group)
