"""Step ``train``: a GradientTape loop over what is not frozen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.artifacts import Assembled, Features, FreezePlan, Trained
from graftline.assemble import RECORD, planned_graft
from graftline.errors import TrainingDivergedError
from graftline.examples import Examples, read_examples
from graftline.export import export_model
from graftline.keras_files import variables_digest
from graftline.params import Params, TrainParams
from graftline.progress import progress
from graftline.standardize import set_standardization
from graftline.storage import replacing_directory, replacing_file
from graftline.thaw import thaw, trained_part
from graftline.workspace import Workspace

_LOG = logging.getLogger(__name__)
EpochCallback = Callable[[int, dict[str, float]], None]
HISTORY_COLUMNS = (
    "epoch",
    "loss",
    "accuracy",
    "validation_loss",
    "validation_accuracy",
    "learning_rate",
)


def train(workspace: Workspace, params: Params, on_epoch: EpochCallback | None = None) -> Trained:
    """Trains what the plan leaves unfrozen and exports the whole network.

    Writes ``models/trained/`` (``model.keras``, ``model.tflite``, ``model.weights.h5``,
    ``trained.json``) and ``reports/history.csv``.

    Args:
        workspace: Where the inputs lie and the outputs go.
        params: ``seed`` and ``train`` are read.
        on_epoch: Called after each epoch with its number, from 1, and its metrics.

    Raises:
        TrainingDivergedError: If loss or gradient becomes NaN or infinite; the weights of the last
            good step are kept under ``var/checkpoints``.
        MissingOutputError: If an earlier step has not run.
    """
    import keras

    # Keras numbers nameless layers through a process's life, and the names stand in the files.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(params.seed)
    assembled = Assembled.read(workspace.assembled / RECORD)
    plan = FreezePlan.read(workspace.freeze_plan)
    graft = planned_graft(workspace, plan, params)
    frozen = thaw(graft, plan)
    digest_before = variables_digest(frozen)
    # Where its outputs were too many to be cached, training reads images.
    cached = Features.read(workspace.features / "features.json").boundary
    part = trained_part(graft, plan.model_copy(update={"boundary": cached}))
    train_set = read_examples(workspace, "train")
    set_standardization(graft, part, train_set)
    history, best = _run_epochs(workspace, params, part.network, train_set, on_epoch)
    record = Trained(
        classes=assembled.classes,
        size_px=assembled.size_px,
        best_epoch=best,
        epochs_run=len(history),
        validation_accuracy=history[best - 1]["validation_accuracy"],
        validation_loss=history[best - 1]["validation_loss"],
        weight_digest=variables_digest(graft.variables),
        frozen_digest_before=digest_before,
        frozen_digest_after=variables_digest(frozen),
        trainable_params=_count(graft.trainable_variables),
        frozen_params=_count(frozen),
    )
    with replacing_directory(workspace.trained) as folder:
        export_model(graft, assembled.size_px, folder)
        record.write(folder / "trained.json")
    write_history(history, workspace.history)
    return record


def write_history(history: list[dict[str, float]], path: Path) -> None:
    """Writes one row per epoch; numbers with all their digits, so that equal runs compare equal."""
    import csv

    with replacing_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, HISTORY_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def epoch_line(row: dict[str, float], epochs: int) -> str:
    """One epoch's metrics as a line for logs."""
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['loss']:.4f}, accuracy {row['accuracy']:.4f}, "
        f"validation loss {row['validation_loss']:.4f}, "
        f"validation accuracy {row['validation_accuracy']:.4f}"
    )


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


def _run_epochs(
    workspace: Workspace,
    params: Params,
    network: Any,
    train_set: Examples,
    on_epoch: EpochCallback | None,
) -> tuple[list[dict[str, float]], int]:
    """Trains, and leaves the network with the weights of its best epoch."""
    validation_set = read_examples(workspace, "validation")
    loop = Loop(network, params.train, train_set, params.seed)
    history: list[dict[str, float]] = []
    best = _Best(network)
    with progress("train", params.train.epochs * len(train_set), "images") as bar:
        for epoch in range(1, params.train.epochs + 1):
            row = {"epoch": epoch, **_one_epoch(workspace, loop, train_set, epoch, bar)}
            validation_loss, validation_accuracy = loop.measure(validation_set)
            row |= {
                "validation_loss": validation_loss,
                "validation_accuracy": validation_accuracy,
                "learning_rate": loop.learning_rate(),
            }
            history.append(row)
            best.offer(epoch, validation_loss)
            _LOG.info(epoch_line(row, params.train.epochs))
            if on_epoch is not None:
                on_epoch(epoch, row)
            patience = params.train.early_stopping_patience
            if patience is not None and epoch - best.epoch >= patience:
                break
    best.restore()
    return history, best.epoch


def _one_epoch(
    workspace: Workspace, loop: Loop, examples: Examples, epoch: int, bar: Any
) -> dict[str, float]:
    loss_sum, correct, seen = 0.0, 0, 0
    for images, labels in examples.chunks(loop.batch_size, order=loop.order(len(examples), epoch)):
        chunk_loss, chunk_correct, finite = loop.train_on(images, labels)
        if not finite:
            _stop_diverged(workspace, loop, epoch)
        loss_sum, correct, seen = (
            loss_sum + chunk_loss,
            correct + chunk_correct,
            seen + labels.size,
        )
        status = f"epoch {epoch}, loss {loss_sum / seen:.4f}, accuracy {correct / seen:.4f}"
        bar.advance(labels.size, status)
    return {"loss": loss_sum / seen, "accuracy": correct / seen}


def _stop_diverged(workspace: Workspace, loop: Loop, epoch: int) -> None:
    kept = workspace.var / "checkpoints" / "last_good.weights.h5"
    kept.parent.mkdir(parents=True, exist_ok=True)
    loop.network.save_weights(kept)
    raise TrainingDivergedError(
        f"loss or gradient became NaN or infinite in epoch {epoch}",
        where=f"train.learning_rate: {loop.params.learning_rate}",
        fix=f"lower train.learning_rate; the weights of the last good step are in {kept}",
    )


class Loop:
    """One network, one Adam, and the compiled steps.

    Args:
        network: From examples to probabilities (n, classes).
        params: The section ``train``.
        examples: The training split, for the number of steps and the class weights.
        seed: Seed of the order of the examples.
    """

    def __init__(self, network: Any, params: TrainParams, examples: Examples, seed: int) -> None:
        import keras
        import tensorflow as tf

        self.network, self.params, self.batch_size = network, params, params.batch_size
        self._seed = seed
        self._classes = int(network.output.shape[-1])
        steps = params.epochs * -(-len(examples) // params.batch_size)
        rate: Any = params.learning_rate
        if params.schedule == "cosine":
            rate = keras.optimizers.schedules.CosineDecay(params.learning_rate, steps)
        self._optimizer = keras.optimizers.Adam(rate)
        self._optimizer.build(network.trainable_variables)
        weights = class_weights(examples.labels, self._classes, params.class_weights)
        self._class_weights = tf.constant(weights)
        # Chunks of several batches per call: a call costs more than a step of a small head.
        # The number of steps and the batch stay open, so that the last batch needs no new trace.
        self._train_chunk = tf.function(self._train_steps, reduce_retracing=True)
        self._measure_batch = tf.function(self._measure, reduce_retracing=True)

    def order(self, count: int, epoch: int) -> NDArray[np.int64]:
        """The order of the examples in one epoch: a permutation from seed and epoch."""
        return np.random.default_rng((self._seed, epoch)).permutation(count)

    def learning_rate(self) -> float:
        """The rate that the next step would use."""
        return float(self._optimizer.learning_rate)

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

        loss, correct, finite = self._train_chunk(tf.constant(images), tf.constant(labels))
        return float(loss), int(correct), bool(finite)

    def measure(self, examples: Examples) -> tuple[float, float]:
        """Cross-entropy and accuracy over a split, in inference mode."""
        import tensorflow as tf

        loss_sum, correct = 0.0, 0
        for images, labels in examples.chunks(max(self.batch_size, 256), order=None):
            for batch, batch_labels in zip(images, labels, strict=True):
                loss, right = self._measure_batch(tf.constant(batch), tf.constant(batch_labels))
                loss_sum, correct = loss_sum + float(loss), correct + int(right)
        return loss_sum / len(examples), correct / len(examples)

    def _train_steps(self, images: Any, labels: Any) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        loss_sum, correct = tf.constant(0.0), tf.constant(0, tf.int64)
        finite = tf.constant(True)
        for step in tf.range(tf.shape(labels)[0]):
            if finite:
                loss, right, finite = self._train_step(images[step], labels[step])
                loss_sum += loss
                correct += right
        return loss_sum, correct, finite

    def _train_step(self, images: Any, labels: Any) -> tuple[Any, Any, Any]:
        import keras
        import tensorflow as tf

        variables = [variable.value for variable in self.network.trainable_variables]
        with tf.GradientTape() as tape:
            probabilities = self.network(images, training=True)  # (batch, classes)
            losses = keras.losses.categorical_crossentropy(
                tf.one_hot(labels, self._classes),
                probabilities,
                label_smoothing=self.params.label_smoothing,
            )  # (batch,)
            loss = tf.reduce_mean(losses * tf.gather(self._class_weights, labels))
        gradients = tape.gradient(loss, variables)
        finite = tf.math.is_finite(loss) & tf.math.is_finite(tf.linalg.global_norm(gradients))
        if finite:
            self._optimizer.apply(gradients, self.network.trainable_variables)
        return (
            loss * tf.cast(tf.size(labels), tf.float32),
            _right(probabilities, labels),
            finite,
        )

    def _measure(self, images: Any, labels: Any) -> tuple[Any, Any]:
        import keras
        import tensorflow as tf

        probabilities = self.network(images, training=False)
        losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
        return tf.reduce_sum(losses), _right(probabilities, labels)


@dataclass
class _Best:
    """The weights of the epoch with the lowest validation loss so far."""

    network: Any
    epoch: int = 0
    loss: float = float("inf")
    values: tuple[NDArray[np.float32], ...] = ()

    def offer(self, epoch: int, loss: float) -> None:
        if self.epoch == 0 or loss < self.loss:
            self.epoch, self.loss = epoch, loss
            self.values = tuple(v.numpy().copy() for v in self.network.trainable_variables)

    def restore(self) -> None:
        for variable, value in zip(self.network.trainable_variables, self.values, strict=True):
            variable.assign(value)


def _right(probabilities: Any, labels: Any) -> Any:
    import tensorflow as tf

    answers = tf.argmax(probabilities, axis=-1, output_type=labels.dtype)
    return tf.math.count_nonzero(answers == labels)


def _count(variables: list[Any]) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)
