"""The training loop: a GradientTape over one network, compiled, with one Adam per group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.params import TrainParams
from graftline.network.precision import computing_in
from graftline.training.datasets import Examples
from graftline.training.mixup import mixed

_MEASURED_BATCH = 256


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


class Loop:
    """One network, an Adam for each group of its variables, and the compiled steps.

    Rates differ by optimizer, since Adam divides a scaled gradient by its own scale again.

    Args:
        network: From examples to logits (n, classes), without the softmax.
        groups: All of the network's trainable variables, each in one group.
        objective: The section ``train``: what is minimized and how it is kept steady.
        batch_size: Examples per step.
        labels: Of the training split, (n,), for the class weights.
        seed: Seed of the order of the examples and of MixUp.
        precision: ``float32`` or ``bfloat16``: what the training steps compute in.
    """

    def __init__(
        self,
        network: Any,
        groups: Sequence[Group],
        objective: TrainParams,
        batch_size: int,
        labels: NDArray[np.int32],
        seed: int,
        precision: str = "float32",
    ) -> None:
        import keras
        import tensorflow as tf

        self.network, self.objective, self.batch_size = network, objective, batch_size
        self.groups = groups
        self._seed, self._precision = seed, precision
        self.classes = int(network.output.shape[-1])
        self._optimizers = [keras.optimizers.Adam(group.rate) for group in groups]
        for optimizer, group in zip(self._optimizers, groups, strict=True):
            optimizer.build(list(group.variables))
        self._variables = [variable for group in groups for variable in group.variables]
        self._class_weights = tf.Variable(tf.ones(self.classes), trainable=False)
        self._average = [tf.Variable(v.value) for v in self._variables] if objective.ema else []
        self.begin(labels)
        # Chunks of several batches per call: a call costs more than a step of a small head.
        # The number of steps and the batch stay open, so that the last batch needs no new trace.
        self._train_chunk = tf.function(self._train_steps, reduce_retracing=True)
        self._logits = tf.function(
            lambda batch: self.network(batch, training=False), reduce_retracing=True
        )

    def begin(self, labels: NDArray[np.int32]) -> None:
        """Makes ready to train from the present weights on: class weights, and the average.

        Args:
            labels: Of the training split, (n,).
        """
        self._class_weights.assign(
            class_weights(labels, self.classes, self.objective.class_weights)
        )
        for average, variable in zip(self._average, self._variables, strict=False):
            average.assign(variable.value)

    def order(self, count: int, epoch: int) -> NDArray[np.int64]:
        """The order of the examples in one epoch: a permutation from seed and epoch."""
        return np.random.default_rng((self._seed, epoch)).permutation(count)

    def learning_rate(self) -> float:
        """The first group's rate at the next step."""
        return float(self._optimizers[0].learning_rate)

    def train_on(self, images: NDArray[Any], labels: NDArray[np.int32]) -> tuple[float, int, bool]:
        """Trains on a chunk of batches.

        Args:
            images: (steps, batch, ...): features or images.
            labels: (steps, batch).

        Returns:
            The sum of the losses, the number of right answers, and whether all stayed finite; a
            step with a NaN is not applied, nor is any after it.
        """
        import tensorflow as tf

        with computing_in(self._precision, self.network):
            loss, correct, finite = self._train_chunk(tf.constant(images), tf.constant(labels))
        return float(loss), int(correct), bool(finite)

    def logits(self, examples: Examples) -> NDArray[np.float32]:
        """Logits (n, classes) of a split's examples, in inference mode."""
        return np.concatenate(list(self.logits_by_batch(examples)))

    def logits_by_batch(self, examples: Examples) -> Iterator[NDArray[np.float32]]:
        """The same, (batch, classes) after (batch, classes)."""
        import tensorflow as tf

        for images, _ in examples.chunks(_MEASURED_BATCH, order=None):
            for batch in images:
                yield self._logits(tf.constant(batch)).numpy()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Gives the network its averaged weights while the block runs, if an average is kept."""
        if not self._average:
            yield
            return
        kept = [variable.numpy() for variable in self._variables]
        for variable, average in zip(self._variables, self._average, strict=True):
            variable.assign(average)
        try:
            yield
        finally:
            for variable, value in zip(self._variables, kept, strict=True):
                variable.assign(value)

    def state(self) -> list[Any]:
        """Every variable that training moves: weights, optimizers, average, random state."""
        seeds = [v for v in self.network.variables if "seed_generator" in v.path]
        moments = [v for optimizer in self._optimizers for v in optimizer.variables]
        return [*self._variables, *seeds, *moments, *self._average]

    def _train_steps(self, images: Any, labels: Any) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        loss_sum, correct = tf.constant(0.0), tf.constant(0, tf.int64)
        finite = tf.constant(True)
        for step in tf.range(tf.shape(labels)[0]):
            if finite:
                loss, answered, finite = self._train_step(images[step], labels[step])
                loss_sum += loss
                correct += answered
        return loss_sum, correct, finite

    def _train_step(self, images: Any, labels: Any) -> tuple[Any, Any, Any]:
        import keras
        import tensorflow as tf

        variables = [variable.value for variable in self._variables]
        targets = tf.one_hot(labels, self.classes)  # (batch, classes)
        if self.objective.mixup:
            step_seed = tf.stack([self._seed, tf.cast(self._optimizers[0].iterations, tf.int32)])
            images, targets = mixed(images, targets, self.objective.mixup, step_seed)
        with tf.GradientTape() as tape:
            logits = self.network(images, training=True)  # (batch, classes)
            losses = keras.losses.categorical_crossentropy(
                targets, logits, from_logits=True, label_smoothing=self.objective.label_smoothing
            )  # (batch,)
            weights = tf.linalg.matvec(targets, self._class_weights)  # (batch,)
            loss = tf.reduce_mean(losses * weights)
        gradients = tape.gradient(loss, variables)
        finite = tf.math.is_finite(loss) & tf.math.is_finite(tf.linalg.global_norm(gradients))
        if finite:
            self._apply(gradients)
        answers = tf.argmax(logits, axis=-1, output_type=labels.dtype)
        return (
            loss * tf.cast(tf.size(labels), tf.float32),
            tf.math.count_nonzero(answers == labels),
            finite,
        )

    def _apply(self, gradients: list[Any]) -> None:
        import tensorflow as tf

        at = 0
        for optimizer, group in zip(self._optimizers, self.groups, strict=True):
            count = len(group.variables)
            optimizer.apply(gradients[at : at + count], list(group.variables))
            at += count
        if self._average:
            # In the first steps the average would be mostly what training started from.
            done = tf.cast(self._optimizers[0].iterations, tf.float32)
            decay = tf.minimum(tf.constant(self.objective.ema), (1 + done) / (10 + done))
            for average, variable in zip(self._average, self._variables, strict=True):
                average.assign(decay * average + (1 - decay) * variable.value)


def class_weights(labels: NDArray[np.int32], classes: int, kind: str) -> NDArray[np.float32]:
    """The weight of each class in the loss.

    Args:
        labels: Of the training split, (n,).
        classes: Number of classes.
        kind: ``none`` for ones; ``balanced`` for n / (classes x images of the class), so that
            every class weighs the same in sum.
    """
    if kind == "none":
        return np.ones(classes, dtype=np.float32)
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    return (len(labels) / (classes * counts)).astype(np.float32)


def right(logits: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether each answer is right, (n,)."""
    answers: NDArray[np.bool_] = logits.argmax(axis=1) == labels
    return answers
