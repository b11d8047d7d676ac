"""MixUp: training on pairs of examples, blended with their labels (Zhang et al., ICLR 2018)."""

from __future__ import annotations

from typing import Any


def mixing_shares(count: Any, alpha: float, seed: Any) -> Any:
    """The share that stays with each example of a batch, (count,).

    Args:
        count: Examples in the whole batch.
        alpha: Of the symmetric Beta distribution from which each share is drawn, above 0.
        seed: int32 (2,): the same seed gives the same shares, whatever was drawn before.
    """
    import tensorflow as tf

    # Two Gammas make a Beta; Beta itself has no stateless form.
    draws = tf.random.stateless_gamma((2, count), seed, alpha)
    total = tf.reduce_sum(draws, axis=0)
    share = tf.where(total > 0, draws[0] / tf.maximum(total, 1e-30), 1.0)  # (count,)
    # Blending a with b and b with a are the same: the larger share stays with the example.
    return tf.maximum(share, 1 - share)


def shifted(values: Any) -> Any:
    """Each example's neighbour, the last one's before the first: (n, ...).

    ``tf.roll`` has images of 8 bits leave a GPU and come back.
    """
    import tensorflow as tf

    return tf.concat([values[-1:], values[:-1]], axis=0)


def blended(values: Any, others: Any, share: Any) -> Any:
    """Each value with its partner, in the type that they have.

    Args:
        values: (n, ...): features, feature maps, uint8 images or targets.
        others: Their partners, of the same shape.
        share: That which stays of each value, (n,).
    """
    import tensorflow as tf

    values, others = tf.convert_to_tensor(values), tf.convert_to_tensor(others)
    ones = tf.ones(tf.rank(values) - 1, tf.int32)
    of_value = tf.reshape(share, tf.concat([tf.shape(share), ones], axis=0))
    mixed = of_value * tf.cast(values, tf.float32) + (1 - of_value) * tf.cast(others, tf.float32)
    if values.dtype.is_integer:
        mixed = tf.round(mixed)
    return tf.cast(mixed, values.dtype)
