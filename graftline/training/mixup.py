"""MixUp: training on pairs of examples, blended with their labels (Zhang et al., ICLR 2018)."""

from __future__ import annotations

from typing import Any


def mixed(examples: Any, targets: Any, alpha: float, seed: Any) -> tuple[Any, Any]:
    """Blends each example of a batch with its neighbour.

    Args:
        examples: (batch, ...): features, feature maps or uint8 images.
        targets: (batch, classes).
        alpha: Of the symmetric Beta distribution from which each share is drawn, above 0.
        seed: int32 (2,): the same seed gives the same shares, whatever was drawn before.

    Returns:
        Examples and targets of the same shapes and types.
    """
    import tensorflow as tf

    examples = tf.convert_to_tensor(examples)
    count = tf.shape(targets)[0]
    # Two Gammas make a Beta; Beta itself has no stateless form.
    draws = tf.random.stateless_gamma((2, count), seed, alpha)
    total = tf.reduce_sum(draws, axis=0)
    share = tf.where(total > 0, draws[0] / tf.maximum(total, 1e-30), 1.0)  # (batch,)
    # Blending a with b and b with a are the same: the larger share stays with the example.
    share = tf.maximum(share, 1 - share)
    ones = tf.ones(tf.rank(examples) - 1, tf.int32)
    of_example = tf.reshape(share, tf.concat([[count], ones], axis=0))
    # Batches are shuffled, so that the neighbour is any example.
    values = tf.cast(examples, tf.float32)
    blended = of_example * values + (1 - of_example) * tf.roll(values, 1, axis=0)
    if examples.dtype.is_integer:
        blended = tf.round(blended)
    of_target = share[:, None]
    return (
        tf.cast(blended, examples.dtype),
        of_target * targets + (1 - of_target) * tf.roll(targets, 1, axis=0),
    )
