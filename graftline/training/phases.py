"""The phases of training: first the head alone, then what the plan leaves unfrozen with it.

A head that is still random would send large gradients into the backbone and spoil features that the
head alone can use (Kumar et al., ICLR 2022): so the backbone is tuned from the trained head on.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from graftline.core.params import TrainParams, TuneParams
from graftline.core.records import LayerRecord
from graftline.network.classifier import BACKBONE, HEAD, without_softmax
from graftline.network.freeze_plans import by_block
from graftline.training.adam import Group
from graftline.training.datasets import Examples
from graftline.training.loop import Loop
from graftline.training.schedules import ENOUGH_HEAD_STEPS, ENOUGH_STEPS, tuning_rate

_LOG = logging.getLogger(__name__)
Name = Literal["probe", "tune"]
_UNFREEZING_SHARE = 0.5
"""Of the steps, in which gradual unfreezing reaches the first of the unfrozen blocks."""


@dataclass(frozen=True)
class Phase:
    """What trains, on what, for how long.

    Args:
        name: ``probe`` for the head alone, ``tune`` with the unfrozen layers.
        loop: The network and its optimizers.
        train_set: What it learns from.
        validation_set: What tells its best epoch.
        epochs: Passes over ``train_set``.
    """

    name: Name
    loop: Loop
    train_set: Examples
    validation_set: Examples
    epochs: int

    @property
    def number(self) -> int:
        """1 for ``probe``, 2 for ``tune``."""
        return 1 if self.name == "probe" else 2


def probe_phase(
    classifier: Any,
    train_set: Examples,
    validation_set: Examples,
    objective: TrainParams,
    seed: int,
) -> Phase:
    """The head alone, on pooled features (n, c)."""
    import keras

    head = without_softmax(classifier.get_layer(HEAD))
    rate: Any = objective.learning_rate
    if objective.schedule == "cosine":
        steps = objective.epochs * math.ceil(len(train_set) / objective.batch_size)
        rate = keras.optimizers.schedules.CosineDecay(objective.learning_rate, steps)
    groups = [Group(HEAD, head.trainable_variables, rate)]
    loop = Loop(head, groups, objective, objective.batch_size, train_set.labels, seed)
    return Phase("probe", loop, train_set, validation_set, objective.epochs)


def tune_phase(
    classifier: Any,
    network: Any,
    layers: Sequence[LayerRecord],
    sets: tuple[Examples, Examples],
    objective: TrainParams,
    tune: TuneParams,
    seed: int,
    precision: str,
) -> Phase:
    """The head and the unfrozen layers, with an optimizer of their own.

    Args:
        classifier: The whole network, thawed.
        network: Its part from the boundary on, which takes the examples of ``sets``.
        layers: The backbone's layers up to the cut.
        sets: The training and the validation split.
        objective: The section ``train``.
        tune: The section ``tune``.
        seed: Seed of the order of the examples and of MixUp.
        precision: What the training steps compute in.
    """
    train_set, validation_set = sets
    steps = tune.epochs * math.ceil(len(train_set) / tune.batch_size)
    groups = tuning_groups(classifier, layers, tune, steps)
    smoothed = tuning_objective(objective, tune)
    loop = Loop(network, groups, smoothed, tune.batch_size, train_set.labels, seed, precision)
    return Phase("tune", loop, train_set, validation_set, tune.epochs)


def warn_of_few_steps(images: int, train: TrainParams, tune: TuneParams | None) -> None:
    """Logs what epochs would be enough, where there are too few steps for so many images.

    Args:
        images: In the training split.
        train: How the head is trained.
        tune: How layers of the backbone are tuned; None if none are.
    """
    _warn(images, "training the head", "train", train, ENOUGH_HEAD_STEPS, "leave it half trained")
    if tune is not None:
        few = "usually take away more than they give"
        _warn(images, "tuning", "tune", tune, ENOUGH_STEPS, few)


def _warn(
    images: int, what: str, section: str, lengths: TrainParams | TuneParams, enough: int, few: str
) -> None:
    each = math.ceil(images / lengths.batch_size)
    steps = lengths.epochs * each
    if steps < enough:
        _LOG.warning(
            f"{what} takes {steps} steps, and fewer than {enough} {few}; set {section}.epochs to "
            f"{math.ceil(enough / each)} or more, or lower {section}.batch_size"
        )


def tuning_objective(objective: TrainParams, tune: TuneParams) -> TrainParams:
    """The section ``train`` as it holds while layers of the backbone train."""
    return objective.model_copy(update={"label_smoothing": tune.label_smoothing})


def tuning_groups(
    classifier: Any, layers: Sequence[LayerRecord], tune: TuneParams, steps: int
) -> list[Group]:
    """The head and each unfrozen block, the last first, with the rates that fall from it on."""
    backbone, head = classifier.get_layer(BACKBONE), classifier.get_layer(HEAD)
    blocks = [
        (name, [v for layer in members for v in backbone.get_layer(layer.name).trainable_variables])
        for name, members in reversed(list(by_block(tuple(layers))))
    ]
    unfrozen = [name for name, variables in blocks if variables]
    groups = [Group(HEAD, head.trainable_variables, tuning_rate(tune, steps, 1.0, 0))]
    for distance, (name, variables) in enumerate(blocks, start=1):
        if variables:
            place = unfrozen.index(name) if tune.gradual_unfreezing else 0
            start = _start(place, len(unfrozen), steps)
            rate = tuning_rate(tune, steps, tune.layer_decay**distance, start)
            groups.append(Group(name, variables, rate))
    return groups


def _start(place: int, count: int, steps: int) -> int:
    """The step at which the block at a place begins to train, the last block being at place 0."""
    return round(_UNFREEZING_SHARE * steps * place / count)
