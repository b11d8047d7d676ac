"""Training through phases and epochs, from the last checkpoint on, to the best epoch's weights."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from graftline.core.counts import counted
from graftline.core.errors import UserError
from graftline.training.checkpoints import TrainState
from graftline.training.datasets import read_ahead
from graftline.training.measured import measured
from graftline.training.phases import Name, Phase
from graftline.training.temperature import Tempered

_LOG = logging.getLogger(__name__)
Row = dict[str, float]
_WORSE_ERRORS = 2.0
"""Standard errors of the difference by which weights are significantly worse."""
EpochCallback = Callable[[int, Row], None]
_SHOWN_EVERY_S = 0.5


class Counter(Protocol):
    """Whatever counts the images shown; a progress bar."""

    def advance(self, count: int = 1, status: str = "") -> None:
        """Counts ``count`` more."""


class TrainStates(Protocol):
    """Where it is kept how far training has come, such as a file that outlives a kill."""

    def due(self) -> bool:
        """Whether it is time to save."""

    def save(self, standing: TrainState, *, aside: bool = False) -> None:
        """Keeps a standing in place of the one before it; aside: while training goes on."""

    def load(self) -> TrainState | None:
        """The newest standing, if there is one."""


class DivergedError(Exception):
    """Loss or gradient became NaN or infinite; the network holds the last good weights.

    Args:
        phase: The phase in which it happened.
        epoch: Counted from 1 through all phases.
    """

    def __init__(self, phase: Phase, epoch: int) -> None:
        super().__init__(f"{phase.name}, epoch {epoch}")
        self.phase, self.epoch = phase, epoch


@dataclass(frozen=True)
class PhaseSpec:
    """A phase to come; its loop is built when the one before it has ended."""

    name: Name
    build: Callable[[], Phase]


@dataclass
class Trainer:
    """One network on its way through its phases.

    Args:
        classifier: The whole network, thawed.
        phases: In order.
        patience: Epochs without a better validation loss after which a phase ends; None: never.
        checkpoints: Where it stands is written there, and read from there.
        on_epoch: Called after each epoch with its number and metrics, those before a kill too.
        counter: Told of each example shown.
        total_epochs: Of all phases, for the log; 0: epochs are not logged.
    """

    classifier: Any
    phases: Sequence[PhaseSpec]
    patience: int | None = None
    checkpoints: TrainStates | None = None
    on_epoch: EpochCallback | None = None
    counter: Counter | None = None
    total_epochs: int = 0
    history: list[Row] = field(default_factory=list, init=False)

    def run(self) -> BestEpoch:
        """Trains, and leaves the network with the weights of its best epoch.

        Returns:
            What was kept; ``history`` has a row for each epoch.

        Raises:
            DivergedError: If loss or gradient becomes NaN or infinite.
            StorageFullError: If the disk is full.
        """
        best = BestEpoch(self.classifier.trainable_variables)
        standing = self.checkpoints.load() if self.checkpoints else None
        if standing is not None:
            self._take_up(standing, best)
        for planned in self._from(standing):
            phase = planned.build()
            mine = standing if standing and standing.phase == phase.name else None
            self._run_phase(phase, best, mine)
            best.restore()
        return best

    def _take_up(self, standing: TrainState, best: BestEpoch) -> None:
        self.history = list(standing.history)
        best.epoch, best.values = standing.best_epoch, tuple(standing.best_values)
        best.temperature, best.loss = standing.best_tempered
        best.lowest = [
            Lowest(epoch, self.history[epoch - 1]["validation_loss"], losses)
            for epoch, losses in zip(standing.lowest_epochs, standing.lowest_losses, strict=True)
        ]
        if self.total_epochs:
            _LOG.info(
                f"goes on after {counted(len(self.history), 'epoch')}, in the middle of epoch "
                f"{standing.epoch}"
                if standing.chunks
                else f"goes on after {counted(len(self.history), 'epoch')}"
            )
        for row in self.history:
            if self.on_epoch is not None:
                self.on_epoch(int(row["epoch"]), row)

    def _from(self, standing: TrainState | None) -> Sequence[PhaseSpec]:
        names: list[str] = [planned.name for planned in self.phases]
        return self.phases[names.index(standing.phase) :] if standing else self.phases

    def _run_phase(self, phase: Phase, best: BestEpoch, standing: TrainState | None) -> None:
        if standing is None:
            standing = TrainState(phase.name, len(self.history) + 1)
        else:
            for variable, value in zip(phase.loop.state(), standing.values, strict=True):
                variable.assign(value)
        first = 1 + sum(row["phase"] != phase.number for row in self.history)
        stopped = standing.stopped
        for epoch in range(standing.epoch, first + phase.epochs):
            if stopped:
                break
            row, at_best = self._epoch(
                phase, epoch, standing if epoch == standing.epoch else None, best
            )
            self._note(row, at_best, phase, best)
            waited = epoch - max(best.lowest[-1].epoch, first - 1)
            stopped = self.patience is not None and waited >= self.patience
            if self._due():
                standing = TrainState(phase.name, epoch + 1, stopped=stopped)
                self._save(standing, phase, best, aside=True)
        # The next phase starts from what this one came to, wherever a kill may fall.
        self._save(TrainState(phase.name, len(self.history) + 1, stopped=True), phase, best)

    def _epoch(
        self, phase: Phase, epoch: int, standing: TrainState | None, best: BestEpoch
    ) -> tuple[Row, Tempered]:
        loop, examples = phase.loop, phase.train_set.view(epoch - 1)
        sums = _Sums(*standing.sums) if standing else _Sums()
        done = standing.chunks if standing else 0
        chunks = examples.chunks(loop.batch_size, loop.order(len(examples), epoch))
        for images, labels in read_ahead(islice(chunks, done, None)):
            with _short_memory_told(phase):
                sums.add(*loop.train_on(images, labels), labels.size)
            done += 1
            due = sums.seen < len(examples) and self._due()
            if (due or sums.due() or sums.seen >= len(examples)) and not sums.read():
                raise DivergedError(phase, epoch)
            if self.counter is not None:
                self.counter.advance(labels.size, f"epoch {epoch}, {sums}")
            if due:
                standing = TrainState(phase.name, epoch, done, sums.values())
                self._save(standing, phase, best, aside=True)
        with loop.averaged(), _short_memory_told(phase):
            found = measured(loop, phase.validation_set)
        row: Row = {
            "epoch": epoch,
            "phase": phase.number,
            "loss": sums.loss / sums.seen,
            "accuracy": sums.correct / sums.seen,
            "validation_loss": float(found.losses.mean()),
            "validation_accuracy": float(found.right.mean()),
            "learning_rate": loop.learning_rate(),
        }
        return row, found.tempered

    def _note(self, row: Row, at_best: Tempered, phase: Phase, best: BestEpoch) -> None:
        self.history.append(row)
        with phase.loop.averaged():
            best.offer(int(row["epoch"]), phase.number, row["validation_loss"], at_best)
        if self.total_epochs:
            _LOG.info(epoch_line(row, self.total_epochs))
        if self.on_epoch is not None:
            self.on_epoch(int(row["epoch"]), row)

    def _due(self) -> bool:
        return self.checkpoints is not None and self.checkpoints.due()

    def _save(
        self, standing: TrainState, phase: Phase, best: BestEpoch, *, aside: bool = False
    ) -> None:
        if self.checkpoints is None:
            return
        self.checkpoints.save(
            replace(
                standing,
                history=tuple(self.history),
                best_epoch=best.epoch,
                best_tempered=(best.temperature, best.loss),
                values=phase.loop.snapshot(),
                best_values=best.values,
                lowest_epochs=tuple(one.epoch for one in best.lowest),
                lowest_losses=[one.losses for one in best.lowest],
            ),
            aside=aside,
        )


@contextmanager
def _short_memory_told(phase: Phase) -> Iterator[None]:
    """Has TensorFlow's want of memory, mostly a GPU's, name the parameter that helps.

    Raises:
        UserError: If it is so while the block runs.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        section = "train" if phase.name == "probe" else "tune"
        raise UserError(
            f"memory is too short for batches of {phase.loop.batch_size} images in training",
            where=f"{section}.batch_size",
            fix="lower it, or preprocess.size_px; nvidia-smi tells what else uses a GPU",
        ) from error


class _Sums:
    """Loss and right answers of an epoch so far.

    What a chunk came to lies on its device and is read now and then: each reading would have a GPU
    stop, and wait for what comes next.
    """

    def __init__(self, loss: float = 0.0, correct: int = 0, seen: int = 0) -> None:
        self.loss, self.correct, self.seen = loss, correct, seen
        self._read_at_s = time.monotonic()
        self._shown = ""
        self._pending: list[tuple[Any, Any, Any]] = []

    def add(self, loss: Any, correct: Any, finite: Any, count: int) -> None:
        """Takes in what a chunk of ``count`` examples came to."""
        self._pending.append((loss, correct, finite))
        self.seen += count

    def due(self) -> bool:
        """Whether somebody who looks on would like to see a new figure."""
        return time.monotonic() - self._read_at_s >= _SHOWN_EVERY_S

    def read(self) -> bool:
        """Brings the sums up to date; False if something was not finite."""
        pending, self._pending = self._pending, []
        if not all(finite for *_, finite in pending):
            return False
        for loss, correct, _ in pending:
            self.loss += float(loss)
            self.correct += int(correct)
        self._read_at_s = time.monotonic()
        self._shown = f"loss {self.loss / self.seen:.4f}, accuracy {self.correct / self.seen:.4f}"
        return True

    def values(self) -> tuple[float, int, int]:
        """For a checkpoint."""
        return self.loss, self.correct, self.seen

    def __str__(self) -> str:
        return self._shown


def epoch_line(row: Row, epochs: int) -> str:
    """One epoch's metrics as a line for logs."""
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['loss']:.4f}, accuracy {row['accuracy']:.4f}, "
        f"validation loss {row['validation_loss']:.4f}, "
        f"validation accuracy {row['validation_accuracy']:.4f}"
    )


class Lowest(NamedTuple):
    """The epoch of a phase with the lowest validation loss, and its tempered losses, (n,)."""

    epoch: int
    loss: float
    losses: NDArray[np.float64]


class BestEpoch:
    """The weights to be kept: the last ones, unless they are significantly worse than others.

    They are held against those of each phase's epoch with the lowest validation loss, on the same
    images and each at its best temperature. On a hundred validation images the lowest loss of all
    is by chance often that of an early epoch, before or in the middle of what the plan asks for
    (docs/finetuning.md).

    Args:
        variables: All that trains, in any phase.
    """

    def __init__(self, variables: Sequence[Any]) -> None:
        self._variables = list(variables)
        self.epoch = 0
        self.temperature = 1.0
        """At which the answers of the kept weights have the lowest validation loss."""
        self.loss = 0.0
        """That loss."""
        self.lowest: list[Lowest] = []
        """By phase."""
        self.values: tuple[Any, ...] = ()
        """On the device of the weights."""

    def offer(self, epoch: int, phase: int, loss: float, at_best: Tempered) -> None:
        """Takes the present weights if they are to be kept, for all that is known so far.

        Args:
            epoch: Counted from 1 through all phases.
            phase: The phase's number, from 1.
            loss: The validation loss.
            at_best: The losses of the validation examples at the best temperature.
        """
        others, losses = tuple(self.lowest), at_best.losses
        if len(others) < phase or _order(loss) < _order(others[phase - 1].loss):
            self.lowest[phase - 1 :] = [Lowest(epoch, loss, losses)]
        if not any(_is_worse(losses, other.losses) for other in others):
            self.epoch, self.temperature = epoch, at_best.temperature
            self.loss = float(losses.mean())
            self.values = tuple(variable.value * 1 for variable in self._variables)

    def restore(self) -> None:
        """Puts them back."""
        for variable, value in zip(self._variables, self.values, strict=True):
            variable.assign(value)


def _order(loss: float) -> float:
    return float(np.nan_to_num(loss, nan=np.inf))


def _is_worse(losses: NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    if not (np.isfinite(losses).all() and np.isfinite(others).all()):
        return not np.isfinite(losses).all()
    worse = losses - others  # of the same examples
    error = worse.std() / np.sqrt(len(worse))
    return bool(worse.mean() > _WORSE_ERRORS * error)
