"""Which image goes where: stratified, and decided by the seed and the images' content alone.

Within a class, the groups of identical images are put in an order that only the seed and their
hashes determine. The first of them, up to the class's quota, become the test split, the next ones
the validation split, the rest the training split. So neither the names nor the order of the files
matter, and identical images never end up in two splits.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from graftline.core.counts import counted
from graftline.core.errors import DataError
from graftline.core.records import SPLITS, Split
from graftline.data.duplicates import by_content

_GENERATED: tuple[Split, ...] = ("test", "validation")
_TRAIN, _TEST = SPLITS.index("train"), SPLITS.index("test")
NO_SPLIT = -1
"""In place of a split that the source does not give."""
_AT_ONCE = 4096
_PADDED_BYTES = 33


class Images(NamedTuple):
    """What splits depend on, by position."""

    contents: NDArray[np.bytes_]
    """Each content's hash, (n,)."""
    labels: NDArray[np.int32]
    """Of each image, as the index of its class, (n,)."""
    given: NDArray[np.int8]
    """The source's own split of each, as its place in SPLITS; NO_SPLIT where it has none, (n,)."""
    classes: Sequence[str]


@dataclass
class _Groups:
    """Images of one content each, those of one class together, in the order that the seed draws.

    Args:
        places: All their images' positions, group after group, (m,).
        starts: Where each group's positions begin, and where the last ends, (groups + 1,).
        taken: Whether an image outside of training has the same content, (groups,).
        bounds: Where each class's groups begin, and where the last one's end, (classes + 1,).
    """

    places: NDArray[np.int64]
    starts: NDArray[np.int64]
    taken: NDArray[np.bool_]
    bounds: NDArray[np.int64]

    def members(self, group: int) -> NDArray[np.int64]:
        return self.places[self.starts[group] : self.starts[group + 1]]

    def of_class(self, label: int) -> range:
        return range(int(self.bounds[label]), int(self.bounds[label + 1]))


def assigned(
    images: Images, *, seed: int, validation_fraction: float, test_fraction: float
) -> NDArray[np.int8]:
    """The split of each image, as its place in SPLITS.

    Splits that the source has are kept. A test split that it lacks is taken from what it does not
    put into another split than training, then a validation split that it lacks from what is left.

    Args:
        images: All images, in any order.
        seed: Another seed gives other splits.
        validation_fraction: Share of the images that are not test.
        test_fraction: Share of all images.

    Raises:
        DataError: If a class has too few different images to be in every split, or if only some
            images have a split.
    """
    lacking = images.given == NO_SPLIT
    if lacking.any() and not lacking.all():
        raise DataError(
            "some images have a split and others have none",
            allowed="a split for every image, or for none",
        )
    splits = np.where(lacking, _TRAIN, images.given).astype(np.int8)
    there = set(np.unique(images.given).tolist())
    wanted = [split for split in _GENERATED if SPLITS.index(split) not in there]
    if not wanted:
        return splits
    groups = _groups(images, splits == _TRAIN, seed)
    index = {images.classes[label]: label for label in np.unique(images.labels).tolist()}
    order = natural_order(index)
    _refuse_small_classes(images, groups, {name: index[name] for name in order}, wanted)
    fractions = {"test": test_fraction, "validation": validation_fraction}
    there_still = np.ones(len(groups.taken), bool)
    for position, split in enumerate(wanted):
        shared = images.labels[(splits != _TEST) | (split == "test")]
        counts = np.bincount(shared, minlength=len(images.classes)).tolist()
        # A class that has none of what is shared has no quota either.
        shares = {name: count for name, count in zip(images.classes, counts, strict=True) if count}
        quotas = _quotas(shares, fractions[split])
        later = len(wanted) - position - 1
        for name in order:
            left = [group for group in groups.of_class(index[name]) if there_still[group]]
            free = [group for group in left if not groups.taken[group]]
            # What is left must do for the later splits, and for training if nothing else does.
            spare = len(free) - later - (len(free) == len(left))
            for group in _chosen(free, groups.starts, quotas[name], spare):
                there_still[group] = False
                splits[groups.members(group)] = SPLITS.index(split)
    return splits


def refuse_missing_classes(classes: Sequence[str], images: NDArray[np.integer]) -> None:
    """Makes sure that there are two classes or more, and that each is in every split.

    Args:
        classes: Their names, in natural order.
        images: How many there are by split, in the order of SPLITS, and class, (3, classes).

    Raises:
        DataError: Naming every class that lacks somewhere, with its counts.
    """
    if len(classes) < 2:
        raise DataError(
            f"there is a single class, {classes[0]!r}" if classes else "there is no image",
            allowed="two classes or more",
            fix="add images of another class",
        )
    problems = []
    for label, counts in zip(classes, images.T.tolist(), strict=True):
        by_split = dict(zip(SPLITS, counts, strict=True))
        lacking = [split for split, count in by_split.items() if not count]
        if lacking:
            there = ", ".join(f"{count} in {split}" for split, count in by_split.items())
            problems.append(f"class {label!r} has no image in {' and '.join(lacking)} ({there})")
    if problems:
        raise DataError(
            "\n  ".join(["the splits do not all hold every class:", *problems]),
            allowed="at least one image of each class in train, validation and test",
            fix="add images, correct the labels, or remove the class",
        )


def natural_order(names: Iterable[str]) -> list[str]:
    """Names sorted as people count: 2 before 10."""
    return sorted(names, key=lambda name: (_natural_key(name), name))


def _natural_key(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def _groups(images: Images, free: NDArray[np.bool_], seed: int) -> _Groups:
    places = np.flatnonzero(free)
    ordered, starts = by_content(images.contents[places])
    places = places[ordered]
    sizes = np.diff(starts)
    contents = images.contents[places[starts[:-1]]]
    labels = images.labels[places[starts[:-1]]]
    for group in np.flatnonzero(sizes > 1).tolist():
        # Identical images under two labels stay together, with the more frequent label's.
        counts = Counter(images.labels[places[starts[group] : starts[group + 1]]].tolist())
        labels[group] = min(counts, key=lambda label: (-counts[label], images.classes[label]))
    taken = np.isin(contents, images.contents[~free])
    order = np.lexsort((_drawn(seed, contents), labels))
    # Each group's positions once more, in the groups' new order.
    ends = np.cumsum(sizes[order])
    within = np.arange(len(places)) - np.repeat(ends - sizes[order], sizes[order])
    return _Groups(
        places[np.repeat(starts[:-1][order], sizes[order]) + within],
        np.append(0, ends).astype(np.int64),
        taken[order],
        np.searchsorted(labels[order], np.arange(len(images.classes) + 1)).astype(np.int64),
    )


def _drawn(seed: int, contents: NDArray[np.bytes_]) -> NDArray[np.bytes_]:
    """What a group's place in its class is drawn by, (groups,)."""
    prefix = hashlib.sha256(f"{seed}:".encode())
    drawn = bytearray()
    for at in range(0, len(contents), _AT_ONCE):
        for content in contents[at : at + _AT_ONCE].tolist():
            one = prefix.copy()
            one.update(content)
            drawn += one.digest()
    # Padded, and so without a zero at the end of any, which NumPy would not see.
    padded = np.ones((len(contents), _PADDED_BYTES), np.uint8)
    padded[:, :-1] = np.frombuffer(drawn, np.uint8).reshape(-1, _PADDED_BYTES - 1)
    return padded.view(f"S{_PADDED_BYTES}")[:, 0]


def _refuse_small_classes(
    images: Images, groups: _Groups, index: Mapping[str, int], wanted: Sequence[Split]
) -> None:
    counts = np.bincount(
        images.labels[(images.given == NO_SPLIT) | (images.given == _TRAIN)],
        minlength=len(images.classes),
    )
    problems = []
    for name, label in index.items():
        taken = [groups.taken[group] for group in groups.of_class(label)]
        free = len(taken) - sum(taken)
        if free < len(wanted) or len(taken) <= len(wanted):
            problems.append(
                f"class {name!r} has {counted(int(counts[label]), 'image')}, among them "
                f"{free} different that no other class and no other split has"
            )
    if problems:
        parts = ", ".join(["train", *reversed(wanted)])
        raise DataError(
            "\n  ".join([f"too few images to split into {parts}:", *problems]),
            allowed=f"at least {len(wanted) + 1} different images of each class",
            fix="add images of these classes, remove the classes, or give the splits yourself",
        )


def _quotas(counts: Mapping[str, int], fraction: float) -> dict[str, int]:
    """Shares of each class, by largest remainder, so that the sum is right too; at least 1."""
    exact = {label: count * fraction for label, count in counts.items()}
    quotas = {label: int(share) for label, share in exact.items()}
    # A plain sum would end in other digits, and so round otherwise, in another order of the files.
    left = round(math.fsum(exact.values())) - sum(quotas.values())
    by_remainder = sorted(exact, key=lambda label: (quotas[label] - exact[label], label))
    for label in by_remainder[:left]:
        quotas[label] += 1
    return {label: max(1, quota) for label, quota in quotas.items()}


def _chosen(groups: Sequence[int], starts: NDArray[np.int64], quota: int, spare: int) -> list[int]:
    """The first groups that fit into the quota, at most ``spare`` of them and at least one."""
    chosen: list[int] = []
    size = 0
    for group in groups:
        if len(chosen) == spare or size == quota:
            break
        members = int(starts[group + 1] - starts[group])
        if size + members <= quota:
            chosen.append(group)
            size += members
    return chosen or [min(groups, key=lambda group: int(starts[group + 1] - starts[group]))]
