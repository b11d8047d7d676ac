"""Samples hold the classes in their shares; no image is on both sides of a fold."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from graftline.data.shards import Texts, coded
from graftline.selection.folds import dealt_folds, stratified_order, training_sample
from graftline.selection.probe import out_of_fold

LABELS = np.array([0] * 60 + [1] * 30 + [2] * 10)
HASHES = np.array([f"{at:03d}" for at in range(100)], np.bytes_)


def test_every_beginning_holds_the_classes_in_their_shares() -> None:
    order = stratified_order(LABELS, HASHES, seed=1)
    assert sorted(order) == list(range(100))
    for end in (10, 20, 50):
        counts = np.bincount(LABELS[order[:end]], minlength=3)
        assert np.abs(counts - end * np.array([0.6, 0.3, 0.1])).max() <= 1


def test_the_order_depends_on_content_and_seed_not_on_the_order_of_files() -> None:
    order = stratified_order(LABELS, HASHES, seed=1)
    turned = np.random.default_rng(0).permutation(100)
    again = stratified_order(LABELS[turned], HASHES[turned], seed=1)
    assert list(HASHES[turned][again]) == list(HASHES[order])
    assert list(stratified_order(LABELS, HASHES, seed=2)) != list(order)


def test_a_copy_is_left_out() -> None:
    hashes = HASHES.copy()
    hashes[7] = hashes[3]
    order = stratified_order(LABELS, hashes, seed=1)
    assert len(order) == 99
    assert len({hashes[at] for at in order}) == 99


def test_each_class_is_spread_over_the_folds() -> None:
    labels = LABELS[stratified_order(LABELS, HASHES, seed=1)]
    folds = dealt_folds(labels)
    for label in range(3):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_of_very_many_classes_some_are_drawn_with_enough_images_each() -> None:
    labels = np.arange(3000) % 300
    hashes = Texts(coded(np.arange(3000), [f"{at:04d}" for at in range(3000)]).cast("string"))
    images = SimpleNamespace(labels=labels, hashes=hashes, indices=lambda split: np.arange(3000))
    sample = training_sample(images, 400, seed=1)  # type: ignore[arg-type]
    assert len(sample) == 400
    counts = np.bincount(labels[sample], minlength=300)
    assert (counts > 0).sum() == 50
    assert counts[counts > 0].tolist() == [8] * 50
    # Where all of them get enough, none is left out.
    assert len(np.unique(labels[training_sample(images, 2400, seed=1)])) == 300  # type: ignore[arg-type]


def test_the_probe_answers_with_the_classes_that_were_drawn() -> None:
    labels = np.array([7, 900, 30] * 40)
    features = np.eye(1000, dtype=np.float32)[labels][:, [7, 900, 30]]
    folds = dealt_folds(labels)
    assert (out_of_fold(features, labels, folds, seed=0) == labels).all()
