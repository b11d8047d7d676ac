"""MixUp blends a batch with itself, labels and all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from graftline.training.mixup import blended, mixing_shares

SEED = tf.constant([3, 5])


def mixed(examples: Any, targets: Any, alpha: float, seed: Any) -> tuple[Any, Any]:
    """A batch with its neighbours, as the loop does it."""
    share = mixing_shares(len(examples), alpha, seed)
    one, other = (blended(part, tf.roll(part, 1, axis=0), share) for part in (examples, targets))
    return one, other


@pytest.mark.parametrize("shape", [(4,), (5, 5, 2)])
def test_each_example_is_blended_with_its_neighbour_as_its_target_is(
    shape: tuple[int, ...],
) -> None:
    examples = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
    targets = np.eye(6, dtype=np.float32)
    blended, of_targets = (part.numpy() for part in mixed(examples, targets, 0.4, SEED))
    np.testing.assert_allclose(of_targets.sum(axis=1), 1, rtol=1e-6)
    shares = of_targets[np.arange(6), np.arange(6)]
    assert (shares >= 0.5).all() and (shares < 1).any()
    by_hand = shares.reshape(-1, *[1] * len(shape)) * examples
    by_hand += (1 - shares).reshape(-1, *[1] * len(shape)) * np.roll(examples, 1, axis=0)
    np.testing.assert_allclose(blended, by_hand, rtol=1e-5, atol=1e-6)


def test_images_stay_images() -> None:
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (4, 3, 3, 1)), tf.uint8)
    blended, _ = mixed(images, tf.eye(4), 1.0, SEED)
    assert blended.dtype == tf.uint8
    assert blended.shape == images.shape


def test_the_same_seed_gives_the_same_blend_and_another_another() -> None:
    examples, targets = tf.random.stateless_uniform((8, 3), [1, 2]), tf.eye(8)
    one = mixed(examples, targets, 0.4, SEED)[0].numpy()
    assert np.array_equal(one, mixed(examples, targets, 0.4, SEED)[0].numpy())
    assert not np.array_equal(one, mixed(examples, targets, 0.4, tf.constant([3, 6]))[0].numpy())
