"""Images that occur more than once: copies, copies across given splits, copies under two labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Repeats:
    """What occurs more than once; each group holds the positions of all images of one content.

    Args:
        duplicates: How many images repeat an earlier one.
        leaks: Groups that stand in more than one of the source's own splits.
        conflicts: Groups that stand under more than one label.
    """

    duplicates: int
    leaks: Sequence[Sequence[int]]
    conflicts: Sequence[Sequence[int]]


def by_content(contents: NDArray[np.bytes_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Brings identical images together.

    Args:
        contents: Each image's hash, (n,).

    Returns:
        The images' positions, by content and then as they stand, (n,); and where in these each
        content begins, and where the last one ends, (contents + 1,).
    """
    order = np.argsort(contents, kind="stable")
    ordered = contents[order]
    begins = np.ones(len(order), bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    return order, np.append(np.flatnonzero(begins), len(order)).astype(np.int64)


def found(
    contents: NDArray[np.bytes_], given: NDArray[np.int8], labels: NDArray[np.int32]
) -> Repeats:
    """Finds identical images by their content's hash.

    Args:
        contents: Each image's hash, (n,).
        given: The split that the source puts it in, as a number, (n,).
        labels: Its label, as a number, (n,).
    """
    order, starts = by_content(contents)
    groups = [
        order[starts[at] : starts[at + 1]].tolist()
        for at in np.flatnonzero(np.diff(starts) > 1).tolist()
    ]
    # As their first images stand.
    groups.sort()
    return Repeats(
        duplicates=len(order) - (len(starts) - 1),
        leaks=[group for group in groups if len(set(given[group].tolist())) > 1],
        conflicts=[group for group in groups if len(set(labels[group].tolist())) > 1],
    )
