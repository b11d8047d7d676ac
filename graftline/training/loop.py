"""The training loop: a GradientTape over one network, compiled, on one device or on several.

It is written once for every strategy of ``tf.distribute``: that in whose scope a loop is made. Each
replica works on its share of a batch, and what it comes to is summed before the step is taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.params import TrainParams
from graftline.network.precision import computing_in
from graftline.training.adam import Group, GroupedAdam
from graftline.training.datasets import Examples
from graftline.training.mixup import blended, mixing_shares, shifted
from graftline.training.shares import Share, places_of, share_of, with_shared_draws, working_on

_MEASURED_BATCH = 256
_WAITING_LOGITS = 1 << 23


class Loop:
    """One network, its optimizer, and the compiled steps.

    Args:
        network: From examples to logits (n, classes), without the softmax.
        groups: All of the network's trainable variables, each in one group.
        objective: The section ``train``: what is minimized and how it is kept steady.
        batch_size: Examples per step, over all replicas.
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
        import tensorflow as tf

        self.network, self.objective, self.batch_size = network, objective, batch_size
        self.groups = groups
        self._seed, self._precision = seed, precision
        self.classes = int(network.output.shape[-1])
        self._strategy = tf.distribute.get_strategy()
        self._replicas = self._strategy.num_replicas_in_sync
        self._trained = network if self._replicas == 1 else with_shared_draws(network)
        self._optimizer = GroupedAdam(groups)
        self._variables = self._optimizer.variables
        self._class_weights = tf.Variable(tf.ones(self.classes), trainable=False)
        self._average = [self._averaged_from_here()] if objective.ema else []
        # Whether every step so far was finite. It stays on the device, as all that decides there.
        self._finite = tf.Variable(True, trainable=False)
        self.begin(labels)
        # Chunks of several batches per call: a call costs more than a step of a small head.
        # The number of steps and the batch stay open, so that the last batch needs no new trace.
        self._train_chunk = tf.function(self._train_steps, reduce_retracing=True)
        self._logits = tf.function(self._answer, reduce_retracing=True)

    def begin(self, labels: NDArray[np.int32]) -> None:
        """Makes ready to train from the present weights on: class weights, and the average.

        Args:
            labels: Of the training split, (n,).
        """
        self._class_weights.assign(
            class_weights(labels, self.classes, self.objective.class_weights)
        )
        self._finite.assign(True)
        for average in self._average:
            average.assign(self._weights())

    def order(self, count: int, epoch: int) -> NDArray[np.int64]:
        """The order of the examples in one epoch: a permutation from seed and epoch."""
        return np.random.default_rng((self._seed, epoch)).permutation(count)

    def learning_rate(self) -> float:
        """The first group's rate at the next step."""
        return self._optimizer.learning_rate()

    def train_on(self, images: NDArray[Any], labels: NDArray[np.int32]) -> tuple[Any, Any, Any]:
        """Trains on a chunk of batches.

        Args:
            images: (steps, batch, ...): features or images.
            labels: (steps, batch).

        Returns:
            The sum of the losses, the number of right answers, and whether all stayed finite; a
            step with a NaN is not applied, nor is any after it. They lie on the device, which may
            still be at work: reading them waits for it.
        """
        import tensorflow as tf

        # A neighbour to be blended with the first of a share comes with it.
        before = int(self._replicas > 1 and self.objective.mixup > 0)
        count = labels.shape[1]
        with computing_in(self._precision, self._trained):
            found: tuple[Any, Any, Any] = self._train_chunk(
                self._spread(images, count, 1, before),
                # What has 32 bits would lie on the host, and have every step wait for it.
                self._spread(labels.astype(np.int64), count, 1, before),
                tf.constant(count),
            )
        return found

    def logits(self, examples: Examples) -> NDArray[np.float32]:
        """Logits (n, classes) of a split's examples, in inference mode."""
        return np.concatenate(list(self.logits_by_batch(examples)))

    def logits_by_batch(self, examples: Examples) -> Iterator[NDArray[np.float32]]:
        """The same, (batch, classes) after (batch, classes)."""
        # Read after some more are under way; of many classes these have to be few.
        most = max(1, _WAITING_LOGITS // (_MEASURED_BATCH * self.classes))
        waiting: deque[tuple[Any, int]] = deque()
        for images, _ in examples.chunks(_MEASURED_BATCH, order=None):
            for batch in images:
                waiting.append((self._logits(self._spread(batch, len(batch), 0)), len(batch)))
                if len(waiting) > most:
                    yield _read(*waiting.popleft())
        while waiting:
            yield _read(*waiting.popleft())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Gives the network its averaged weights while the block runs, if an average is kept."""
        if not self._average:
            yield
            return
        kept = self._weights()
        self._take(self._average[0])
        try:
            yield
        finally:
            self._take(kept)

    def state(self) -> list[Any]:
        """Every variable that training moves: weights, optimizer, average, random state."""
        seeds = [v for v in self.network.variables if "seed_generator" in v.path]
        return [*self._variables, *seeds, *self._optimizer.state(), *self._average]

    def snapshot(self) -> list[Any]:
        """The present values of :meth:`state`, on their device; what trains on leaves them be."""
        import tensorflow as tf

        return [tf.identity(variable) for variable in self.state()]

    def _averaged_from_here(self) -> Any:
        import tensorflow as tf

        return tf.Variable(self._weights(), trainable=False)

    def _weights(self) -> Any:
        return self._optimizer.vector([variable.value for variable in self._variables])

    def _take(self, weights: Any) -> None:
        for variable, value in zip(self._variables, self._optimizer.pieces(weights), strict=True):
            variable.assign(value)

    def _spread(self, values: NDArray[Any], count: int, axis: int, before: int = 0) -> Any:
        """A batch, or a chunk of them, on the devices: to each replica its share."""
        import tensorflow as tf

        if self._replicas == 1:
            return tf.constant(values)
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(
                values.take(
                    places_of(context.replica_id_in_sync_group, self._replicas, count, before), axis
                )
            )
        )

    def _answer(self, batch: Any) -> Any:
        if self._replicas == 1:
            return self.network(batch, training=False)
        answered = self._strategy.run(lambda part: self.network(part, training=False), (batch,))
        return self._strategy.gather(answered, axis=0)

    def _train_steps(self, images: Any, labels: Any, count: Any) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        loss_sum, correct = tf.constant(0.0), tf.constant(0.0)
        steps = tf.shape(self._strategy.experimental_local_results(labels)[0])[0]
        # Once, for seeds lie on the host, and it would wait for the device.
        done = tf.cast(self._optimizer.steps.read_value(), tf.int32)
        for step in tf.range(steps):
            # On every replica the same.
            loss, answered = self._strategy.run(
                self._train_step, (images, labels, count, step, done + step)
            )
            loss_sum += self._strategy.experimental_local_results(loss)[0]
            correct += self._strategy.experimental_local_results(answered)[0]
        return loss_sum, correct, self._finite.read_value()

    def _train_step(
        self, images: Any, labels: Any, count: Any, step: Any, number: Any
    ) -> tuple[Any, Any]:
        """One replica's part of a step: its sum of the losses and of right answers, over all."""
        import keras
        import tensorflow as tf

        examples, labels = images[step], labels[step]
        targets = tf.one_hot(labels, self.classes)  # (share, classes)
        share = self._share(labels, count)
        if self.objective.mixup:
            examples, targets, labels = self._mixed(examples, targets, labels, count, number, share)
        variables = [variable.value for variable in self._variables]
        with tf.GradientTape() as tape, working_on(share):
            logits = self._trained(examples, training=True)  # (share, classes)
            losses = keras.losses.categorical_crossentropy(
                targets, logits, from_logits=True, label_smoothing=self.objective.label_smoothing
            )  # (share,)
            losses *= tf.linalg.matvec(targets, self._class_weights)
            if share is None:
                loss = tf.reduce_mean(losses)
            else:
                loss = tf.reduce_sum(losses * share.counts) / tf.cast(count, tf.float32)
        gradient = self._optimizer.vector(tape.gradient(loss, variables))
        right = tf.cast(tf.argmax(logits, axis=-1) == labels, tf.float32)
        answered = tf.reduce_sum(right if share is None else right * share.counts)
        if share is not None:
            # One sum over the replicas for all that a step comes to.
            vector = tf.concat([gradient, [loss, answered]], axis=0)
            vector = tf.distribute.get_replica_context().all_reduce("sum", vector)
            gradient, loss, answered = vector[:-2], vector[-2], vector[-1]
        self._finite.assign(
            self._finite & tf.math.is_finite(loss) & tf.math.is_finite(tf.nn.l2_loss(gradient))
        )
        self._optimizer.apply(gradient, self._finite)
        for average in self._average:
            # In the first steps the average would be mostly what training started from.
            done = tf.cast(self._optimizer.steps, tf.float32)
            decay = tf.minimum(tf.constant(self.objective.ema), (1 + done) / (10 + done))
            average.assign(decay * average + (1 - decay) * self._weights())
        return loss * tf.cast(count, tf.float32), answered

    def _share(self, labels: Any, count: Any) -> Share | None:
        import tensorflow as tf

        if self._replicas == 1:
            return None
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        before = int(self.objective.mixup > 0)
        return share_of(replica, tf.size(labels) - before, count)

    def _mixed(
        self, examples: Any, targets: Any, labels: Any, count: Any, number: Any, share: Share | None
    ) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        stays = mixing_shares(count, self.objective.mixup, tf.stack([self._seed, number]))
        # Batches are shuffled, so that the neighbour is any example.
        if share is None:
            partners = shifted(examples), shifted(targets)
        else:
            stays = tf.gather(stays, share.places)
            partners = examples[:-1], targets[:-1]
            examples, targets, labels = examples[1:], targets[1:], labels[1:]
        return (blended(examples, partners[0], stays), blended(targets, partners[1], stays), labels)


def _read(logits: Any, count: int) -> NDArray[np.float32]:
    # What fills the shares up is left out.
    values: NDArray[np.float32] = logits.numpy()[:count]
    return values


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
