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


def found(
    contents: NDArray[np.bytes_], given: NDArray[np.int8], labels: NDArray[np.int32]
) -> Repeats:
    """Finds identical images by their content's hash.

    Args:
        contents: Each image's hash, (n,).
        given: The split that the source puts it in, as a number, (n,).
        labels: Its label, as a number, (n,).
    """
    order = np.argsort(contents, kind="stable")
    ordered = contents[order]
    begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(order)])
    ends = np.append(begins[1:], len(order))
    groups = [
        order[begins[at] : ends[at]].tolist() for at in np.flatnonzero(ends - begins > 1).tolist()
    ]
    # As their first images stand.
    groups.sort()
    return Repeats(
        duplicates=len(order) - len(begins),
        leaks=[group for group in groups if len(set(given[group].tolist())) > 1],
        conflicts=[group for group in groups if len(set(labels[group].tolist())) > 1],
    )
