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
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from graftline.core.counts import counted
from graftline.core.errors import DataError
from graftline.core.records import SPLITS, Split

_GENERATED: tuple[Split, ...] = ("test", "validation")


class Image(NamedTuple):
    """What a split depends on: the content's hash, the label, and the source's own split."""

    sha256: str
    label: str
    split: Split | None


class _Group(NamedTuple):
    """Identical images, by their positions."""

    sha256: str
    members: tuple[int, ...]


def assigned(
    images: Sequence[Image], *, seed: int, validation_fraction: float, test_fraction: float
) -> list[Split]:
    """The split of each image.

    Splits that the source has are kept. A test split that it lacks is taken from what it does not
    put into another split than training, then a validation split that it lacks from what is left.

    Args:
        images: All images, in any order.
        seed: Another seed gives other splits.
        validation_fraction: Share of the images that are not test.
        test_fraction: Share of all images.

    Returns:
        One split per image.

    Raises:
        DataError: If a class has too few different images to be in every split, or if only some
            images have a split.
    """
    given = {image.split for image in images if image.split is not None}
    if given and any(image.split is None for image in images):
        raise DataError(
            "some images have a split and others have none",
            allowed="a split for every image, or for none",
        )
    splits: list[Split] = [image.split or "train" for image in images]
    wanted = [split for split in _GENERATED if split not in given]
    if not wanted:
        return splits
    classes = _groups_by_class(images, seed)
    # An image that a given split also holds must not get into a generated one.
    taken = {image.sha256 for image in images if image.split not in (None, "train")}
    _refuse_small_classes(images, classes, taken, wanted)
    fractions = {"test": test_fraction, "validation": validation_fraction}
    for position, split in enumerate(wanted):
        quotas = _quotas(_share_of(images, splits, split), fractions[split])
        later = len(wanted) - position - 1
        for label, groups in classes.items():
            free = [group for group in groups if group.sha256 not in taken]
            # What is left must do for the later splits, and for training if nothing else does.
            spare = len(free) - later - (len(free) == len(groups))
            chosen = _chosen(free, quotas[label], spare)
            taken |= {group.sha256 for group in chosen}
            for member in chain.from_iterable(group.members for group in chosen):
                splits[member] = split
            classes[label] = [group for group in groups if splits[group.members[0]] == "train"]
    return splits


def refuse_missing_classes(labels: Collection[str], placed: Iterable[tuple[str, Split]]) -> None:
    """Makes sure that there are two classes or more, and that each is in every split.

    Raises:
        DataError: Naming every class that lacks somewhere, with its counts.
    """
    counts: dict[str, Counter[str]] = {label: Counter() for label in labels}
    for label, split in placed:
        counts[label][split] += 1
    if len(counts) < 2:
        raise DataError(
            f"there is a single class, {next(iter(counts), 'none')!r}"
            if counts
            else "there is no image",
            allowed="two classes or more",
            fix="add images of another class",
        )
    problems = []
    for label in natural_order(counts):
        lacking = [split for split in SPLITS if not counts[label][split]]
        if lacking:
            there = ", ".join(f"{counts[label][split]} in {split}" for split in SPLITS)
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


def _groups_by_class(images: Sequence[Image], seed: int) -> dict[str, list[_Group]]:
    members: dict[str, list[int]] = defaultdict(list)
    for position, image in enumerate(images):
        if image.split in (None, "train"):
            members[image.sha256].append(position)
    classes: dict[str, list[_Group]] = {
        label: [] for label in natural_order({image.label for image in images})
    }
    for sha256 in sorted(members, key=lambda sha256: _draw(seed, sha256)):
        group = members[sha256]
        label = images[group[0]].label
        if len(group) > 1:
            # Identical images under two labels stay together, with the more frequent label's.
            labels = Counter(images[member].label for member in group)
            label = min(labels, key=lambda label: (-labels[label], label))
        classes[label].append(_Group(sha256, tuple(group)))
    return classes


def _draw(seed: int, sha256: str) -> bytes:
    return hashlib.sha256(f"{seed}:{sha256}".encode()).digest()


def _refuse_small_classes(
    images: Sequence[Image],
    classes: Mapping[str, Sequence[_Group]],
    taken: Collection[str],
    wanted: Sequence[Split],
) -> None:
    counts = Counter(image.label for image in images if image.split in (None, "train"))
    problems = []
    for label, groups in classes.items():
        free = sum(group.sha256 not in taken for group in groups)
        if free < len(wanted) or len(groups) <= len(wanted):
            problems.append(
                f"class {label!r} has {counted(counts[label], 'image')}, among them {free} "
                "different that no other class and no other split has"
            )
    if problems:
        parts = ", ".join(["train", *reversed(wanted)])
        raise DataError(
            "\n  ".join([f"too few images to split into {parts}:", *problems]),
            allowed=f"at least {len(wanted) + 1} different images of each class",
            fix="add images of these classes, remove the classes, or give the splits yourself",
        )


def _share_of(images: Sequence[Image], splits: Sequence[Split], split: Split) -> Mapping[str, int]:
    """By label, the images that a generated split is a share of: for test all, else the rest."""
    return Counter(
        image.label
        for image, now in zip(images, splits, strict=True)
        if split == "test" or now != "test"
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


def _chosen(groups: Sequence[_Group], quota: int, spare: int) -> list[_Group]:
    """The first groups that fit into the quota, at most ``spare`` of them and at least one."""
    chosen: list[_Group] = []
    size = 0
    for group in groups:
        if len(chosen) == spare or size == quota:
            break
        if size + len(group.members) <= quota:
            chosen.append(group)
            size += len(group.members)
    return chosen or [min(groups, key=lambda group: len(group.members))]
