"""Which images are looked at, in which order, and which of them are held out together.

All of it depends on the seed and on the images' content and labels alone. Within a class the
images stand in a random order; over the classes they are interleaved, so that every beginning of
the whole order holds the classes in their true shares. Subsets for a learning curve are such
beginnings, and folds are dealt out along it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graftline.data.shards import PackedImages

ENOUGH_HELD_OUT = 1000
_LEAST_OF_CLASS = 8
FOLDS = 5
"""As usual; each probe then sees four fifths of the images."""


@dataclass(frozen=True)
class Fold:
    """One way to divide images into those that are trained on and those held out.

    Args:
        number: From 0.
        train: Positions in the preprocessed manifest, int64.
        validation: Likewise: what a training validates its epochs on, as ``train`` does on the
            validation split, so that no held-out image decides which weights answer it.
        held_out: Likewise; no image, nor its copy, is in two of them.
    """

    number: int
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    held_out: NDArray[np.int64]

    @property
    def images(self) -> NDArray[np.int64]:
        """All of them, (n,)."""
        return np.concatenate([self.train, self.validation, self.held_out])


def stratified_order(
    labels: NDArray[np.integer], hashes: NDArray[np.bytes_], seed: int
) -> NDArray[np.int64]:
    """Positions of the different images, every beginning of which holds the classes in shares.

    Args:
        labels: Of each image, (n,).
        hashes: Of each image's content, (n,); of identical images only one is taken.
        seed: Another seed gives another order.
    """
    # By content, so that the order in which a source lists its files does not matter.
    _, first = np.unique(hashes, return_index=True)
    shuffled = np.random.default_rng((seed, 1)).permutation(first)
    places = np.empty(len(shuffled))
    for members in _by_label(labels[shuffled]):
        places[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(places, kind="stable")].astype(np.int64)


def dealt_folds(labels: NDArray[np.integer], folds: int = FOLDS) -> NDArray[np.int64]:
    """The fold of each image, (n,): the images of each class are dealt out in turn.

    Args:
        labels: Of images in stratified order.
        folds: How many folds.
    """
    fold = np.empty(len(labels), np.int64)
    dealt = 0
    for members in _by_label(labels):
        # Each class begins where the one before it ended, so that rare classes do not all fall
        # into the first fold.
        fold[members] = (dealt + np.arange(len(members))) % folds
        dealt += len(members)
    return fold


def _by_label(labels: NDArray[np.integer]) -> Iterator[NDArray[np.int64]]:
    """The places of each label in turn, from the lowest on; one sort, however many there are."""
    order = np.argsort(labels, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def training_sample(images: PackedImages, most: int, seed: int) -> NDArray[np.int64]:
    """At most so many training images, in stratified order, as positions in the manifest.

    Of more classes than get ``_LEAST_OF_CLASS`` images each, some are drawn: a probe learns nothing
    of a class from a single image.
    """
    train = images.indices("train")
    classes = np.unique(images.labels[train])
    if len(classes) > (wanted := max(2, most // _LEAST_OF_CLASS)):
        drawn = np.random.default_rng((seed, 3)).permutation(classes)[:wanted]
        train = train[np.isin(images.labels[train], drawn)]
    order = stratified_order(images.labels[train], images.hashes.as_bytes(train), seed)
    return train[order[:most]]


def race_folds(images: PackedImages, seed: int) -> tuple[Fold, ...]:
    """What the race trains on and holds out; the test split is no part of it.

    A validation split of 1 000 images or more is held out as it is: it tells accuracies of 95 %
    apart to about a point. A smaller one tells hardly anything (of 72 images one is 1.4 points),
    so then training and validation images together are dealt into folds, each of which is held
    out once. Of what is left the same share validates as in the true split, ENOUGH_HELD_OUT images
    at most.
    """
    train, validation = images.indices("train"), images.indices("validation")
    share = len(validation) / (len(train) + len(validation))
    if len(validation) >= ENOUGH_HELD_OUT:
        return (_fold(images, 0, train, validation, share, seed),)
    both = np.concatenate([train, validation])
    both = both[stratified_order(images.labels[both], images.hashes.as_bytes(both), seed)]
    fold = dealt_folds(images.labels[both])
    return tuple(
        _fold(images, at, both[fold != at], both[fold == at], share, seed) for at in range(FOLDS)
    )


def _fold(
    images: PackedImages,
    number: int,
    left: NDArray[np.int64],
    held_out: NDArray[np.int64],
    share: float,
    seed: int,
) -> Fold:
    """Sets aside what validates: each class in its share, and no copy of it is trained on."""
    hashes = images.hashes.as_bytes(left)
    order = stratified_order(images.labels[left], hashes, seed)
    count = min(max(1, round(share * len(order))), ENOUGH_HELD_OUT)
    chosen = np.sort(order[len(order) - count :])
    validation = left[chosen]
    copies = np.isin(hashes, hashes[chosen])
    train = left[~copies]
    return Fold(number, train, validation, held_out)
