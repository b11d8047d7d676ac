"""Trains a candidate briefly, as ``train`` would: the head first, then the unfrozen layers.

What one candidate needs again and again is made once: outputs of its frozen part, the head that
was trained on it, and its compiled steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.adapt import Statistics, adapted_statistics, set_statistics
from graftline.artifacts import Assembled, FreezePlan
from graftline.assemble import RECORD, frozen_part, planned_graft
from graftline.choosing.candidates import Candidate
from graftline.choosing.features import outputs_in_order
from graftline.choosing.sample import Fold
from graftline.choosing.settings import Settings
from graftline.choosing.trial import Trial
from graftline.examples import Examples, images_of
from graftline.graft import HEAD, POOLING, TRUNK, without_softmax
from graftline.litert import LiteRunner
from graftline.loop import Group, Loop, right
from graftline.packed import PackedImages
from graftline.params import TrainParams, TuneParams
from graftline.phases import probe_phase, tuning_groups, tuning_objective
from graftline.plans import POOLED
from graftline.standardize import set_standardization
from graftline.storage import scratch_folder
from graftline.tempering import tempered
from graftline.thaw import thaw, tuned_part
from graftline.workspace import Workspace

PROBED_IMAGES = 8000
"""A head learns little from more, and all candidates at a cut start from the same one."""
_HEAD = TrainParams()
"""The head's training in the race; the section ``train`` decides nothing here."""
_HEAD_STEPS = 600
"""At least: ten epochs of a hundred images are too few for any head."""
_KEPT_BYTES = 2 << 30
_SMALLEST_BATCH = 8
_Key = tuple[FreezePlan, int, int, int | None, int]
"""Plan, steps, images per step, the fold if its statistics are adapted, and seed."""


class GraftTrainer:
    """Trains candidates on the preprocessed images of a workspace.

    Args:
        workspace: Where ``preprocess`` and ``assemble`` left their files.
        settings: ``head``, ``tune`` and ``seed`` are read.
    """

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        self._workspace, self._settings = workspace, settings
        self._assembled = Assembled.read(workspace.assembled / RECORD)
        self._images = PackedImages.open(workspace.preprocessed)
        self._frozen: dict[tuple[str, ...], _Outputs] = {}
        self._heads: dict[tuple[object, ...], list[NDArray[Any]]] = {}
        self._ready: _Ready | None = None

    def run(self, candidate: Candidate, images_shown: int, fold: Fold, seed: int) -> Trial:
        """See :meth:`graftline.choosing.trial.Trainer.run`."""
        ready = self._made_ready(candidate.plan, images_shown, fold, seed)
        # Outputs of the frozen part, too, are to be those of the untouched trunk.
        ready.restart()
        ready.graft.get_layer(HEAD).set_weights(self._head_for(ready, fold, seed))
        if candidate.plan.trainable:
            train_set = self._examples(ready, fold.train[: max(1, images_shown)])
            logits = _tuned(ready, train_set, self._examples(ready, fold.held_out), images_shown)
        else:
            logits = ready.loop.logits(self._pooled(ready, fold.held_out))
        labels = self._images.labels[fold.held_out].astype(np.int32)
        return Trial(right(logits, labels), tempered(logits, labels).losses)

    def _made_ready(self, plan: FreezePlan, shown: int, fold: Fold, seed: int) -> _Ready:
        batch_size = _batch_size(shown, len(fold.train), self._settings.tune)
        steps = _steps(shown, len(fold.train), batch_size)
        # Folds differ by an image or two, which must not cost a new trace.
        adapted = fold.number if plan.batch_norm == "adapt" else None
        key = (plan, steps, batch_size, adapted, seed)
        if self._ready is None or self._ready.key != key:
            self._ready = self._built(key, fold)
        return self._ready

    def _built(self, key: _Key, fold: Fold) -> _Ready:
        import keras

        plan, steps, batch_size, _, seed = key
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(seed)
        graft = planned_graft(self._workspace, plan, self._settings.head, self._settings.seed)
        if plan.batch_norm == "adapt":
            set_statistics(graft.get_layer(TRUNK), self._statistics(graft, fold))
        thaw(graft, plan)
        labels, tune = self._images.labels[fold.train].astype(np.int32), self._settings.tune
        if plan.trainable:
            layers = self._assembled.up_to(plan.cut)
            groups = tuning_groups(graft, layers, tune, steps)
            network = tuned_part(graft, plan.boundary)
        else:
            network = without_softmax(graft.get_layer(HEAD))
            groups = [Group(HEAD, network.trainable_variables, _HEAD.learning_rate)]
        objective = tuning_objective(_HEAD, tune)
        loop = Loop(network, groups, objective, batch_size, labels, seed)
        state = [variable.numpy().copy() for variable in loop.state()]
        return _Ready(key, plan, graft, loop, state)

    def _statistics(self, graft: Any, fold: Fold) -> Statistics:
        return adapted_statistics(graft.get_layer(TRUNK), self._images, fold.train)

    def _head_for(self, ready: _Ready, fold: Fold, seed: int) -> list[NDArray[Any]]:
        """The head's weights after training on the frozen trunk, standardization included."""
        key = (ready.plan.cut, ready.plan.batch_norm, fold.number, seed)
        if key not in self._heads:
            head = ready.graft.get_layer(HEAD)
            pooled = self._pooled(ready, fold.train[:PROBED_IMAGES])
            set_standardization(ready.graft, pooled)
            phase = probe_phase(ready.graft, pooled, pooled, _HEAD, seed)
            steps = math.ceil(len(pooled) / _HEAD.batch_size)
            for epoch in range(1, max(phase.epochs, math.ceil(_HEAD_STEPS / steps)) + 1):
                _show(phase.loop, pooled, epoch)
            self._heads[key] = [value.copy() for value in head.get_weights()]
        return self._heads[key]

    def _pooled(self, ready: _Ready, positions: NDArray[np.int64]) -> Examples:
        return self._from_frozen(ready, POOLED, positions)

    def _examples(self, ready: _Ready, positions: NDArray[np.int64]) -> Examples:
        if ready.plan.boundary is None:
            size_px = self._assembled.size_px
            return images_of(self._images, positions, size_px)
        return self._from_frozen(ready, ready.plan.boundary, positions)

    def _from_frozen(self, ready: _Ready, boundary: str, positions: NDArray[np.int64]) -> Examples:
        plan = ready.plan
        adapted = str(ready.key[3]) if plan.batch_norm == "adapt" else "keep"
        key = (plan.cut if boundary == POOLED else "", boundary, adapted)
        if key not in self._frozen:
            if sum(outputs.nbytes for outputs in self._frozen.values()) > _KEPT_BYTES:
                self._frozen.clear()
            # Made from the untouched trunk: the layers before the boundary never train.
            self._frozen[key] = _Outputs(ready.graft, boundary, self._assembled.size_px)
        values = self._frozen[key].of(self._images, positions)
        labels = self._images.labels[positions].astype(np.int32)
        return Examples(labels, lambda chosen: values[chosen], values[:1].nbytes)


@dataclass
class _Ready:
    """A network with its compiled steps, which can be taken back to their beginning."""

    key: _Key
    plan: FreezePlan
    graft: Any
    loop: Loop
    state: list[NDArray[Any]]

    def restart(self) -> None:
        for variable, value in zip(self.loop.state(), self.state, strict=True):
            variable.assign(value)


class _Outputs:
    """Outputs of a frozen part for the images asked for so far, as float16 or, pooled, float32."""

    def __init__(self, graft: Any, boundary: str, size_px: int) -> None:
        self._file = _converted(graft, boundary, size_px)
        self._type = np.float32 if boundary == POOLED else np.float16
        self._rows: dict[int, int] = {}
        self._values: NDArray[Any] | None = None

    @property
    def nbytes(self) -> int:
        return 0 if self._values is None else self._values.nbytes

    def of(self, images: PackedImages, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Outputs (n, ...) in the order of ``positions``."""
        missing = np.array([p for p in positions.tolist() if p not in self._rows], np.int64)
        if len(missing):
            found = self._computed(images, missing)
            begun = len(self._rows)
            self._rows |= {int(p): begun + place for place, p in enumerate(missing)}
            known = [] if self._values is None else [self._values]
            self._values = np.concatenate([*known, found])
        if self._values is None:
            raise ValueError("no image was asked for")
        return self._values[[self._rows[p] for p in positions.tolist()]]

    def _computed(self, images: PackedImages, positions: NDArray[np.int64]) -> NDArray[Any]:
        with scratch_folder() as folder:
            path = folder / "frozen.tflite"
            path.write_bytes(self._file)
            with LiteRunner(path) as runner:
                return outputs_in_order(runner, images, positions, self._type)


def _converted(graft: Any, boundary: str, size_px: int) -> bytes:
    import keras

    from graftline.keras_files import convert_to_litert

    trunk = graft.get_layer(TRUNK)
    if boundary == POOLED:
        return convert_to_litert(frozen_part(trunk, size_px, graft.get_layer(POOLING)))
    prefix = keras.Model(trunk.input, trunk.get_layer(boundary).output)
    return convert_to_litert(frozen_part(prefix, size_px))


def _tuned(ready: _Ready, train_set: Examples, held_out: Examples, shown: int) -> NDArray[Any]:
    """Logits of the held-out images after a short fine-tuning."""
    epochs = max(1, round(shown / len(train_set)))
    for epoch in range(1, epochs + 1):
        _show(ready.loop, train_set, epoch)
    return ready.loop.logits(held_out)


def _show(loop: Loop, examples: Examples, epoch: int) -> None:
    order = loop.order(len(examples), epoch)
    for chunk, labels in examples.chunks(loop.batch_size, order):
        _, _, finite = loop.train_on(chunk, labels)
        if not finite:
            # The weights before that step stay, and their answers speak for themselves.
            return


def _batch_size(shown: int, images: int, tune: TuneParams) -> int:
    """Of a short training: so few images that it takes as many steps as a full one.

    Its rates are those of the full one, so half of the steps would come half as far.
    """
    steps = tune.epochs * math.ceil(images / tune.batch_size)
    return min(tune.batch_size, max(_SMALLEST_BATCH, round(shown / steps)))


def _steps(shown: int, images: int, batch_size: int) -> int:
    """Of a training that shows so many images; the same for folds that differ by a few images."""
    if shown <= images:
        return max(1, math.ceil(shown / batch_size))
    return max(1, round(shown / images)) * math.ceil(images / batch_size)
