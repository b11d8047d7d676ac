"""Trains a candidate as ``train`` would, by the same functions; only its tuning may be shorter.

What one candidate needs again and again is made once: outputs of its frozen part, the head that
was trained on it, and its compiled steps.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graftline.compute.devices import settled_device
from graftline.core.errors import TrainingDivergedError
from graftline.core.files import SCRATCH_PREFIX
from graftline.core.fresh_start import refuse_overgrown
from graftline.core.params import TuneParams
from graftline.core.process_identity import name_tag
from graftline.core.records import Assembled, Features, FreezePlan
from graftline.core.stages import POOLED
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.network.assembled import planned_classifier
from graftline.network.batch_norm import Statistics, adapted_statistics, set_statistics
from graftline.network.classifier import BACKBONE, HEAD, POOLING, frozen_part
from graftline.network.precision import training_precision
from graftline.network.runners.choosing import Computing
from graftline.network.unfreezing import thaw, tuned_part
from graftline.selection.candidates import Candidate
from graftline.selection.folds import Fold
from graftline.selection.frozen_outputs import FrozenOutputs
from graftline.selection.kept import planned_outputs
from graftline.selection.settings import Settings
from graftline.selection.shortening import shortened
from graftline.selection.trial import Trial, TrialRunner
from graftline.training.augment import AugmentedViews, build_augmentation
from graftline.training.checkpoints import TrainState
from graftline.training.datasets import Examples, images_of
from graftline.training.feature_scaling import set_standardization
from graftline.training.measured import measured
from graftline.training.phases import Phase, probe_phase, tune_phase
from graftline.training.trainer import DivergedError, PhaseSpec, Trainer

_GB = 1e9


class CandidateTrainer:
    """Trains candidates on the preprocessed images of a workspace.

    Args:
        workspace: Where ``preprocess`` and ``assemble`` left their files.
        settings: All but ``freeze`` is read.
    """

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        # It may be made in another process than the step's.
        self._device = settled_device("cpu" if settings.computing.takes_litert else "gpu")
        self._workspace, self._settings = workspace, settings
        self._assembled = Assembled.read_in(workspace)
        self._images = PackedImages.open(workspace.preprocessed)
        splits = (self._images.indices("train"), self._images.indices("validation"))
        self._raced = np.concatenate(splits)
        self._outputs: dict[_Key, FrozenOutputs] = {}
        """Those used last stand last."""
        self._folder: Path | None = None
        self._parts = 0
        self._closing = ExitStack()
        # With the trainer go its files; those of a killed one go at the next start, by their name.
        weakref.finalize(self, self._closing.close)
        self._closing.callback(_close_all, self._outputs)
        self._heads: dict[tuple[object, ...], _TrainedHead] = {}
        self._ready: _Ready | None = None
        self._networks = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another process, it is made anew there."""
        return type(self), (self._workspace, self._settings)

    def run(self, candidate: Candidate, images_shown: int, fold: Fold, seed: int) -> Trial:
        """See :meth:`graftline.selection.trial.TrialRunner.run`.

        Raises:
            TrainingDivergedError: If the head's training diverges, as that of ``train`` would.
        """
        sets = _Sets(fold, *shortened(self._settings.tune, images_shown, len(fold.train)))
        ready = self._made_ready(candidate.plan, sets, seed)
        # Outputs of the frozen part, too, are to be those of the untouched backbone.
        ready.restart()
        head = self._head_for(ready, fold, seed)
        head.put_into(ready.classifier)
        if ready.tune is None:
            found = measured(ready.probe.loop, self._pooled(ready, fold.held_out))
        else:
            self._tune(ready, ready.tune, sets, head)
            found = measured(ready.tune.loop, self._examples(ready, fold.held_out))
        return Trial(found.right, found.tempered.losses)

    def _made_ready(self, plan: FreezePlan, sets: _Sets, seed: int) -> _Ready:
        # Folds differ by an image or two, which must not cost a new trace.
        adapted = sets.fold.number if plan.batch_norm == "adapt" else None
        steps = math.ceil(len(sets.fold.train) / self._settings.train.batch_size)
        key = (plan, steps, sets.steps, sets.tune, adapted, seed)
        if self._ready is None or self._ready.key != key:
            # The one before it goes first: a network with its optimizers is large.
            self._ready = None
            # The race keeps every trial that has ended.
            refuse_overgrown(self._networks)
            self._ready = self._built(key, plan, sets, seed)
            self._networks += 1
        return self._ready

    def _built(self, key: object, plan: FreezePlan, sets: _Sets, seed: int) -> _Ready:
        import keras

        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(seed)
        classifier = planned_classifier(
            self._workspace, plan, self._settings.head, self._settings.seed
        )
        if plan.batch_norm == "adapt":
            set_statistics(classifier.get_layer(BACKBONE), self._statistics(classifier, sets.fold))
        thaw(classifier, plan)
        adapted = str(sets.fold.number) if plan.batch_norm == "adapt" else "keep"
        kept = planned_outputs(self._assembled, plan, self._images, self._settings)
        ready = _Ready(key, plan, classifier, kept, adapted)
        train, pooled = self._settings.train, self._pooled(ready, sets.fold.train)
        ready.probe = probe_phase(classifier, pooled, pooled, train, seed)
        if plan.trainable:
            ready.tune = tune_phase(
                classifier,
                tuned_part(classifier, kept.boundary, self._augmentation(kept)),
                self._assembled.up_to(plan.cut),
                self._tuning_sets(ready, sets, range(0)),
                train,
                sets.tune,
                seed,
                training_precision(train.mixed_precision, self._device),
            )
        ready.keep_beginning()
        return ready

    def _augmentation(self, kept: Features) -> Any:
        augment = self._settings.augment
        if kept.boundary is not None or not augment.active:
            return None
        return build_augmentation(augment, self._settings.seed)

    def _statistics(self, classifier: Any, fold: Fold) -> Statistics:
        return adapted_statistics(classifier.get_layer(BACKBONE), self._images, fold.train)

    def _head_for(self, ready: _Ready, fold: Fold, seed: int) -> _TrainedHead:
        """The head after its training on the frozen backbone, standardization included."""
        key = (ready.plan.cut, ready.plan.batch_norm, fold.number, seed)
        if key not in self._heads:
            train_set = self._pooled(ready, fold.train, range(self._settings.train.epochs))
            validation_set = self._pooled(ready, fold.validation)
            set_standardization(ready.classifier, train_set)
            phase = replace(ready.probe, train_set=train_set, validation_set=validation_set)
            standings = _TrainStates()
            try:
                self._fitting(ready, [_begun(phase)], standings).run()
            except DivergedError as error:
                rate = self._settings.train.learning_rate
                raise TrainingDivergedError(
                    f"loss or gradient became NaN or infinite in epoch {error.epoch} of the head",
                    where=f"train.learning_rate: {rate:g}",
                    fix="lower train.learning_rate",
                ) from error
            self._heads[key] = _TrainedHead.of(ready.classifier, standings)
        return self._heads[key]

    def _tune(self, ready: _Ready, tune: Phase, sets: _Sets, head: _TrainedHead) -> None:
        """Goes on from the trained head, as ``train`` does; the best weights stay."""
        # Epochs are counted through both phases, and views are taken in turn.
        epochs = range(head.epochs, head.epochs + sets.tune.epochs)
        train_set, validation_set = self._tuning_sets(ready, sets, epochs)
        phase = replace(tune, train_set=train_set, validation_set=validation_set)
        standings = _TrainStates(head.before(phase, ready.classifier))
        try:
            self._fitting(ready, [_begun(phase)], standings).run()
        except DivergedError:
            # The weights before that step stay, and their answers speak for themselves.
            return

    def _fitting(
        self, ready: _Ready, phases: Sequence[PhaseSpec], standings: _TrainStates
    ) -> Trainer:
        patience = self._settings.train.early_stopping_patience
        return Trainer(ready.classifier, phases, patience, standings)

    def _tuning_sets(
        self, ready: _Ready, sets: _Sets, epochs: Sequence[int]
    ) -> tuple[Examples, Examples]:
        return (
            self._examples(ready, sets.fold.train[: sets.used], epochs),
            self._examples(ready, sets.fold.validation),
        )

    def _pooled(
        self, ready: _Ready, positions: NDArray[np.int64], epochs: Sequence[int] = ()
    ) -> Examples:
        return self._from_frozen(ready, POOLED, positions, epochs)

    def _examples(
        self, ready: _Ready, positions: NDArray[np.int64], epochs: Sequence[int] = ()
    ) -> Examples:
        if ready.kept.boundary is None:
            return images_of(self._images, positions, self._assembled.size_px)
        return self._from_frozen(ready, ready.kept.boundary, positions, epochs)

    def _from_frozen(
        self, ready: _Ready, boundary: str, positions: NDArray[np.int64], epochs: Sequence[int]
    ) -> Examples:
        """Frozen outputs, with the views that these epochs show; without any, the first view."""
        views = ready.kept.views if epochs else 1
        needed = {0} | {epoch % views for epoch in epochs}
        return self._outputs_of(ready, boundary).examples(positions, views, sorted(needed))

    def _outputs_of(self, ready: _Ready, boundary: str) -> FrozenOutputs:
        pooled = boundary == POOLED
        key = _Key(ready.plan.cut if pooled else "", boundary, ready.adapted)
        if key in self._outputs:
            self._outputs[key] = self._outputs.pop(key)
        else:
            computing = self._settings.computing
            path = self._file(computing.ending)
            # Made from the untouched backbone: the layers before the boundary never train.
            _convert(ready.classifier, boundary, self._assembled.size_px, computing, path)
            views = AugmentedViews(self._settings.augment, self._settings.seed, len(self._raced))
            outputs = FrozenOutputs(
                path,
                computing,
                self._images,
                self._raced,
                (ready.kept.pooled_dim,) if pooled else ready.kept.shape,
                "float32" if pooled else ready.kept.dtype or "float32",
                ready.kept.views,
                views.changed,
            )
            self._make_room(outputs.nbytes, pooled)
            self._outputs[key] = outputs
        return self._outputs[key]

    def _make_room(self, needed_bytes: int, pooled: bool) -> None:
        """Has outputs of one kind, maps or pooled ones, take no more than ``extract`` may keep.

        Those go first that were not used for longest; they are computed again if they are needed.
        """
        alike = [key for key in self._outputs if (key.boundary == POOLED) == pooled]
        total_bytes = needed_bytes + sum(self._outputs[key].nbytes for key in alike)
        for key in alike:
            if total_bytes <= self._settings.extract.max_cache_gb * _GB:
                break
            total_bytes -= self._outputs[key].nbytes
            self._outputs.pop(key).close()

    def _file(self, ending: str) -> Path:
        """A new name for a frozen part, in the folder of those of this trainer."""
        if self._folder is None:
            var = self._workspace.var
            var.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=f"{SCRATCH_PREFIX}{name_tag()}-", dir=var))
            self._closing.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._parts += 1
        return self._folder / f"{self._parts}{ending}"


class _Key(NamedTuple):
    """Which frozen outputs: at a layer, or pooled at a cut, with which statistics."""

    cut: str
    boundary: str
    adapted: str


def _close_all(outputs: dict[_Key, FrozenOutputs]) -> None:
    while outputs:
        outputs.popitem()[1].close()


class _Sets:
    """What one trial trains on, and for how long its tuning goes.

    Args:
        fold: Images.
        tune: The section ``tune``, shortened.
        used: Of the fold's training images, those that the tuning shows.
    """

    def __init__(self, fold: Fold, tune: TuneParams, used: int) -> None:
        self.fold, self.tune, self.used = fold, tune, used

    @property
    def steps(self) -> int:
        """Of the tuning."""
        return self.tune.epochs * math.ceil(self.used / self.tune.batch_size)


class _Ready:
    """A network with its compiled steps, which can be taken back to their beginning."""

    probe: Phase

    def __init__(
        self, key: object, plan: FreezePlan, classifier: Any, kept: Features, adapted: str
    ):
        self.key, self.plan, self.classifier, self.kept, self.adapted = (
            key,
            plan,
            classifier,
            kept,
            adapted,
        )
        self.tune: Phase | None = None
        self._beginning: list[tuple[Any, NDArray[Any]]] = []

    def keep_beginning(self) -> None:
        """Remembers every variable that training moves, and those that a trained head brings."""
        phases = [phase for phase in (self.probe, self.tune) if phase is not None]
        variables = [
            v for phase in phases for v in (*phase.loop.state(), *self.classifier.variables)
        ]
        different = {id(variable): variable for variable in variables}.values()
        self._beginning = [(variable, _kept(variable.numpy())) for variable in different]

    def restart(self) -> None:
        """Puts all back to how it was before any training."""
        for variable, value in self._beginning:
            variable.assign(value)


def _kept(values: NDArray[Any]) -> NDArray[Any]:
    """A copy; of values that are all zero, as an optimizer begins, one that takes no memory."""
    return (
        values.copy() if values.any() else np.broadcast_to(np.zeros((), values.dtype), values.shape)
    )


class _TrainStates:
    """Keeps in memory how far a training is; see :class:`TrainStates` of the trainer."""

    def __init__(self, standing: TrainState | None = None) -> None:
        self.standing = standing

    def due(self) -> bool:
        return False

    def save(self, standing: TrainState, *, aside: bool = False) -> None:
        self.standing = standing

    def load(self) -> TrainState | None:
        return self.standing


@dataclass(frozen=True)
class _TrainedHead:
    """A head whose training has ended, and what the phase after it goes on from.

    Args:
        values: Of all its variables: those of its best epoch, standardization, random state.
        standing: At the end of its training, without any values: heads of many classes are large,
            and a race keeps each.
    """

    values: list[NDArray[Any]]
    standing: TrainState

    @classmethod
    def of(cls, classifier: Any, standings: _TrainStates) -> _TrainedHead:
        if standings.standing is None:
            raise ValueError("the head has not been trained")
        values = [variable.numpy().copy() for variable in classifier.get_layer(HEAD).variables]
        return cls(values, replace(standings.standing, values=(), best_values=()))

    @property
    def epochs(self) -> int:
        """That it was trained for."""
        return len(self.standing.history)

    def put_into(self, classifier: Any) -> None:
        """Gives a network this head."""
        for variable, value in zip(classifier.get_layer(HEAD).variables, self.values, strict=True):
            variable.assign(value)

    def before(self, phase: Phase, classifier: Any) -> TrainState:
        """As if the head had been trained in this network, of which now other layers may train."""
        return replace(
            self.standing,
            phase=phase.name,
            stopped=False,
            # The variables themselves: the phase goes on from what they are when it begins.
            values=phase.loop.state(),
            best_values=[variable.numpy().copy() for variable in classifier.trainable_variables],
        )


def _begun(phase: Phase) -> PhaseSpec:
    """A phase whose loop is there already, from the weights on that the network has by then."""

    def build() -> Phase:
        phase.loop.begin(phase.train_set.labels)
        return phase

    return PhaseSpec(phase.name, build)


def _convert(
    classifier: Any, boundary: str, size_px: int, computing: Computing, path: Path
) -> None:
    import keras

    backbone = classifier.get_layer(BACKBONE)
    if boundary == POOLED:
        pooled = frozen_part(backbone, size_px, classifier.get_layer(POOLING))
        return computing.convert(pooled, backbone, path)
    prefix = keras.Model(backbone.input, backbone.get_layer(boundary).output)
    return computing.convert(frozen_part(prefix, size_px), prefix, path)


def make_trainer(workspace: Workspace, settings: Settings) -> TrialRunner:
    """The trainer that uses what ``train`` uses; TensorFlow is imported at its first training."""
    return CandidateTrainer(workspace, settings)
