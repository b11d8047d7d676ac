"""The head's standardization comes from the training split, in one pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from graftline.training.datasets import Examples
from graftline.training.feature_scaling import feature_moments


def examples(features: NDArray[np.float32]) -> Examples:
    labels = np.zeros(len(features), np.int32)
    return Examples(labels, lambda places: features[places], features[0].nbytes)


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 700), st.integers(1, 4)),
        elements=st.floats(-1000, 1000, width=32),
    )
)
def test_moments_in_pieces_are_those_of_the_whole(features: NDArray[np.float32]) -> None:
    mean, variance = feature_moments(examples(features))
    whole = features.astype(np.float64)
    np.testing.assert_allclose(mean, whole.mean(axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(variance, whole.var(axis=0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
@pytest.mark.parametrize("count", [1, 6, 7, 50])
def test_every_example_comes_once_and_the_last_batch_is_kept(count: int, batch_size: int) -> None:
    features = np.arange(count, dtype=np.float32)[:, None]
    order = np.random.default_rng(0).permutation(count)
    seen = [
        value
        for chunk, labels in examples(features).chunks(batch_size, order)
        for value in chunk.reshape(-1)
        if chunk.shape[:2] == labels.shape
    ]
    np.testing.assert_array_equal(seen, order)
