"""Adam over all groups at once: one chain of kernels per step, with a rate for each group.

Kingma & Ba (ICLR 2015), in the order of operations of ``keras.optimizers.Adam``, so that a network
comes to the same bytes as with one such optimizer for each group. Those take a dozen kernels for
each variable, which on a GPU cost more than what they compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7


@dataclass(frozen=True)
class Group:
    """Variables that train at one rate.

    Args:
        name: What they are, such as ``head`` or ``block_12``.
        variables: Keras variables.
        rate: A learning rate, or a Keras schedule of it.
    """

    name: str
    variables: Sequence[Any]
    rate: Any


class GroupedAdam:
    """The moments of all variables, each kind in one vector.

    Rates differ by group and are no scales of the gradients, since Adam divides a scaled gradient
    by its own scale again.

    Args:
        groups: In whose order gradients come.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        import tensorflow as tf

        self.variables = [variable for group in groups for variable in group.variables]
        self._rates = [group.rate for group in groups]
        self._sizes = [int(np.prod(variable.shape)) for variable in self.variables]
        in_groups = [sum(int(np.prod(v.shape)) for v in group.variables) for group in groups]
        # Which group each weight belongs to.
        self._places = np.repeat(np.arange(len(groups), dtype=np.int32), in_groups)
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._momentum = tf.Variable(tf.zeros(sum(self._sizes)), trainable=False)
        self._velocity = tf.Variable(tf.zeros(sum(self._sizes)), trainable=False)

    def state(self) -> list[Any]:
        """What :meth:`apply` moves beside the variables."""
        return [self.steps, self._momentum, self._velocity]

    def learning_rate(self) -> float:
        """The first group's rate at the next step."""
        return float(self._rate(self._rates[0]))

    def vector(self, values: Sequence[Any]) -> Any:
        """Values in the shapes of the variables as one vector."""
        import tensorflow as tf

        return tf.concat([tf.reshape(value, [-1]) for value in values], axis=0)

    def pieces(self, vector: Any) -> list[Any]:
        """A vector as values in the shapes of the variables."""
        import tensorflow as tf

        pieces = tf.split(vector, self._sizes)
        return [
            tf.reshape(piece, variable.shape)
            for piece, variable in zip(pieces, self.variables, strict=True)
        ]

    def apply(self, gradient: Any, wanted: Any) -> None:
        """Takes one step.

        Args:
            gradient: One vector.
            wanted: Whether the variables are to move: without asking the host, which a GPU would
                wait for.
        """
        import tensorflow as tf

        step = tf.cast(self.steps + 1, tf.float32)
        rates = tf.stack([self._rate(rate) for rate in self._rates])  # (groups,)
        powers = tf.pow(_BETA_1, step), tf.pow(_BETA_2, step)
        alphas = rates * tf.sqrt(1 - powers[1]) / (1 - powers[0])
        alpha = alphas[0] if len(self._rates) == 1 else tf.gather(alphas, self._places)
        momentum = self._momentum.assign_add((gradient - self._momentum) * (1 - _BETA_1))
        velocity = self._velocity.assign_add((tf.square(gradient) - self._velocity) * (1 - _BETA_2))
        moves = (momentum * alpha) / (tf.sqrt(velocity) + _EPSILON)
        for variable, move in zip(
            self.variables, self.pieces(tf.where(wanted, moves, 0.0)), strict=True
        ):
            variable.value.assign_sub(move)
        self.steps.assign_add(1)

    def _rate(self, rate: Any) -> Any:
        import tensorflow as tf

        return tf.cast(rate(self.steps) if callable(rate) else rate, tf.float32)
