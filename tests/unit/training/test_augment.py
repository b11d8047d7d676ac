"""Augmentation: on in training only, the same image type, and views that no batch changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from graftline.core.params import AugmentParams
from graftline.training.augment import AugmentedViews, augmentation_layers, build_augmentation

EVERYTHING = AugmentParams(
    flip="both", rotation_degrees=20, translation=0.2, zoom=0.2, contrast=0.3, brightness=0.2
)
COUNT = 30


def images(channels: int = 1, height: int = 9, width: int = 12) -> NDArray[np.uint8]:
    random = np.random.default_rng(channels)
    return random.integers(0, 256, (COUNT, height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_model_changes_images_in_training_only(channels: int) -> None:
    model, pixels = build_augmentation(EVERYTHING, seed=1), images(channels)
    changed = np.asarray(model(pixels, training=True))
    assert (changed.dtype, changed.shape) == (np.uint8, pixels.shape)
    assert (changed != pixels).mean() > 0.5
    np.testing.assert_array_equal(model(pixels, training=False), pixels)
    np.testing.assert_array_equal(model(pixels), pixels)
    again = build_augmentation(EVERYTHING, seed=1)
    np.testing.assert_array_equal(again(pixels, training=True), changed)
    assert (np.asarray(model(pixels, training=True)) != changed).any()


def test_inside_a_network_it_follows_that_networks_mode() -> None:
    import keras
    import tensorflow as tf

    start = keras.Input((None, None, None), dtype="uint8")
    network = keras.Model(start, build_augmentation(EVERYTHING, seed=1)(start))
    run = tf.function(lambda pixels, training: network(pixels, training=training))
    pixels = images()
    np.testing.assert_array_equal(run(pixels, False), pixels)
    np.testing.assert_array_equal(network(pixels), pixels)
    first, second = np.asarray(run(pixels, True)), np.asarray(run(pixels, True))
    assert (first != pixels).mean() > 0.5
    assert (first != second).any()


def test_nothing_asked_for_is_nothing_done() -> None:
    assert augmentation_layers(AugmentParams(), seed=0) == []
    assert not AugmentParams().active
    assert EVERYTHING.active


@pytest.mark.parametrize(
    "single", [{"rotation_degrees": 30.0}, {"translation": 0.3}, {"zoom": 0.4}]
)
def test_what_is_laid_open_takes_the_borders_colour(single: dict[str, float]) -> None:
    white = np.full((COUNT, 9, 12, 1), 255, np.uint8)
    views = AugmentedViews(AugmentParams(**single), 0, COUNT)
    np.testing.assert_array_equal(views.changed(white, np.arange(COUNT), 1), white)


def test_a_shift_draws_down_and_right_apart_and_contrast_goes_both_ways() -> None:
    shift = AugmentedViews(AugmentParams(translation=0.3), 0, 200)
    ((down, right),) = [draws["translations"].T for draws in shift._draws(1, (10, 10, 1))]
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.3
    contrast = AugmentedViews(AugmentParams(contrast=0.3), 0, 200)
    (factors,) = [draws["contrast_factor"] for draws in contrast._draws(1, (10, 10, 1))]
    assert 0.7 <= factors.min() < 0.8 < 1.2 < factors.max() <= 1.3


@settings(max_examples=15)
@given(order=st.permutations(range(COUNT)), batch=st.integers(1, COUNT), view=st.integers(1, 5))
@pytest.mark.slow
def test_a_view_is_the_same_in_any_batches_and_order(
    order: list[int], batch: int, view: int
) -> None:
    pixels, places = images(), np.array(order)
    whole = AugmentedViews(EVERYTHING, 7, COUNT).changed(pixels, np.arange(COUNT), view)
    views = AugmentedViews(EVERYTHING, 7, COUNT)
    for at in range(0, COUNT, batch):
        some = places[at : at + batch]
        np.testing.assert_array_equal(views.changed(pixels[some], some, view), whole[some])


def test_views_and_seeds_differ_and_the_first_is_unchanged() -> None:
    pixels, places = images(3), np.arange(COUNT)
    views = AugmentedViews(EVERYTHING, 7, COUNT)
    np.testing.assert_array_equal(views.changed(pixels, places, 0), pixels)
    other = AugmentedViews(EVERYTHING, 8, COUNT).changed(pixels, places, 1)
    kinds = [pixels, views.changed(pixels, places, 1), views.changed(pixels, places, 2), other]
    assert len({kind.tobytes() for kind in kinds}) == 4


def test_images_of_other_shapes_are_changed_too() -> None:
    views = AugmentedViews(EVERYTHING, 7, COUNT)
    small, large = images(1, 5, 6), images(3, 20, 7)
    at = np.array([4, 9])
    alone = AugmentedViews(EVERYTHING, 7, COUNT).changed(large[at], at, 1)
    views.changed(small[at], at, 1)
    np.testing.assert_array_equal(views.changed(large[at], at, 1), alone)
