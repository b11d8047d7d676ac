"""Fine-tuning: which layers train, when, and at which rates; what it computes in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from graftline.core.params import TrainParams, TuneParams
from graftline.core.records import Assembled, FreezePlan
from graftline.core.workspace import Workspace
from graftline.network.classifier import BACKBONE, HEAD
from graftline.network.keras_io import variables_digest
from graftline.network.precision import training_precision
from graftline.network.unfreezing import thaw, tuned_part
from graftline.steps.extract import extract
from graftline.steps.freeze import freeze
from graftline.steps.train import fit, train
from graftline.training.datasets import read_examples, read_pooled
from graftline.training.losses import cross_entropies
from graftline.training.phases import (
    Phase,
    probe_phase,
    tune_phase,
    tuning_groups,
    warn_of_few_steps,
)
from tests.model import small

STRATEGY = {"last_blocks": 2}


@pytest.fixture(scope="module")
def two_blocks(assembled: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """PhaseSpec and extracted, with the last two blocks free."""
    workspace = small.copied(assembled, tmp_path_factory.mktemp("two_blocks"))
    params = small.small_params(STRATEGY)
    freeze(workspace, params)
    extract(workspace, params)
    return workspace


def thawed(workspace: Workspace) -> Any:
    classifier = small.untrained(workspace)
    thaw(classifier, FreezePlan.read(workspace.freeze_plan))
    return classifier


def layers(workspace: Workspace) -> Any:
    record = Assembled.read(workspace.assembled / "assembled.json")
    return record.up_to(record.cut)


def phase(workspace: Workspace, tune: TuneParams, objective: TrainParams) -> tuple[Any, Phase]:
    classifier = thawed(workspace)
    network = tuned_part(classifier, FreezePlan.read(workspace.freeze_plan).boundary)
    sets = (read_examples(workspace, "train"), read_examples(workspace, "validation"))
    precision = training_precision(objective.mixed_precision, "cpu")
    return classifier, tune_phase(
        classifier, network, layers(workspace), sets, objective, tune, 0, precision
    )


def show(one: Phase, epochs: int) -> None:
    for epoch in range(1, epochs + 1):
        order = one.loop.order(len(one.train_set), epoch)
        for examples, labels in one.train_set.chunks(one.loop.batch_size, order):
            assert one.loop.train_on(examples, labels)[2]


def weights_of(classifier: Any, names: set[str]) -> dict[str, np.ndarray]:
    return {
        f"{layer.name}/{number}": value.copy()
        for layer in classifier.get_layer(BACKBONE).layers
        if layer.name in names
        for number, value in enumerate(layer.get_weights())
    }


def test_rates_fall_from_block_to_block(two_blocks: Workspace) -> None:
    tune = TuneParams(learning_rate=0.01, layer_decay=0.5, warmup=0)
    groups = tuning_groups(thawed(two_blocks), layers(two_blocks), tune, steps=100)
    assert [group.name for group in groups] == [HEAD, "block_2", "block_1"]
    assert [float(group.rate(0)) for group in groups] == pytest.approx([0.01, 0.005, 0.0025])
    trainable = {v.path for v in thawed(two_blocks).trainable_variables}
    grouped = [v.path for group in groups for v in group.variables]
    assert sorted(grouped) == sorted(trainable)


@pytest.mark.slow
def test_gradual_unfreezing_starts_with_the_last_block(two_blocks: Workspace) -> None:
    tune = TuneParams(epochs=4, batch_size=16, gradual_unfreezing=True, learning_rate=0.01)
    classifier, one = phase(two_blocks, tune, TrainParams())
    plan = FreezePlan.read(two_blocks.freeze_plan)
    first = {name for name in plan.trainable if name.startswith("block_1_")}
    last = {name for name in plan.trainable if name.startswith("block_2_")}
    assert first and last
    before_first, before_last = weights_of(classifier, first), weights_of(classifier, last)
    show(one, 1)
    same = weights_of(classifier, first)
    assert all(np.array_equal(same[name], before_first[name]) for name in same)
    moved = weights_of(classifier, last)
    assert not all(np.array_equal(moved[name], before_last[name]) for name in moved)
    show(one, 2)
    later = weights_of(classifier, first)
    assert not all(np.array_equal(later[name], before_first[name]) for name in later)


def test_each_group_has_moments_of_its_own(two_blocks: Workspace) -> None:
    # Under Adam a scaled gradient moves a weight as far as an unscaled one; a rate does not.
    tune = TuneParams(epochs=2, batch_size=16, learning_rate=0.01, layer_decay=0.1, warmup=0)
    classifier, one = phase(two_blocks, tune, TrainParams())
    before = [[v.numpy() for v in group.variables] for group in one.loop.groups]
    examples, labels = next(one.train_set.chunks(16, None))
    one.loop.train_on(examples[:1], labels[:1])
    farthest = [
        max(
            float(np.abs(v.numpy() - old).max())
            for v, old in zip(group.variables, olds, strict=True)
        )
        for group, olds in zip(one.loop.groups, before, strict=True)
    ]
    # The first step of Adam is as long as its rate.
    assert farthest == pytest.approx([0.01, 0.001, 0.0001], rel=0.1)


@pytest.mark.slow
def test_the_average_is_what_is_validated_and_kept(two_blocks: Workspace) -> None:
    params = small.small_params(
        STRATEGY, train={"epochs": 1, "ema": 0.95}, tune={"epochs": 3, "batch_size": 16}
    )
    fitted = fit(two_blocks, params)
    plain = fit(
        two_blocks,
        small.small_params(STRATEGY, train={"epochs": 1}, tune={"epochs": 3, "batch_size": 16}),
    )
    assert variables_digest(fitted.classifier.variables) != variables_digest(
        plain.classifier.variables
    )
    examples = read_examples(two_blocks, "validation")
    network = tuned_part(fitted.classifier, FreezePlan.read(two_blocks.freeze_plan).boundary)
    maps = np.concatenate([c.reshape(-1, *c.shape[2:]) for c, _ in examples.chunks(64, None)])
    kept = small.answers(network, maps.astype(np.float32))
    loss = cross_entropies(kept, examples.labels).mean()
    assert loss == pytest.approx(fitted.validation_loss, abs=1e-4)


@pytest.mark.slow
def test_sixteen_bits_train_weights_of_thirty_two(two_blocks: Workspace) -> None:
    tune = TuneParams(epochs=2, batch_size=16, learning_rate=0.01)
    classifier, half = phase(two_blocks, tune, TrainParams(mixed_precision="bfloat16"))
    _, full = phase(two_blocks, tune, TrainParams())
    examples, labels = next(half.train_set.chunks(16, None))
    losses = [float(one.loop.train_on(examples[:1], labels[:1])[0]) for one in (half, full)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert {v.dtype for v in classifier.trainable_variables} == {"float32"}
    assert {layer.compute_dtype for layer in classifier.get_layer(BACKBONE).layers} == {"float32"}
    assert half.loop.logits(half.validation_set).dtype == np.float32


@pytest.mark.slow
def test_batch_normalization_keeps_its_statistics_in_every_phase(
    two_blocks: Workspace, tmp_path: Path
) -> None:
    workspace = small.copied(two_blocks, tmp_path)
    params = small.small_params(STRATEGY, train={"epochs": 2, "mixup": 0.2}, tune={"epochs": 2})
    record = train(workspace, params)
    assert record.frozen_digest_before == record.frozen_digest_after
    before, after = (
        {
            layer.name: [layer.moving_mean.numpy(), layer.moving_variance.numpy()]
            for layer in model.get_layer(BACKBONE).layers
            if isinstance(layer, keras.layers.BatchNormalization)
        }
        for model in (small.untrained(workspace), small.trained(workspace))
    )
    assert before and all(
        np.array_equal(a, b)
        for name in before
        for a, b in zip(before[name], after[name], strict=True)
    )


def test_too_short_a_training_is_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    tune = TuneParams(epochs=2, batch_size=16)
    warn_of_few_steps(130, TrainParams(), tune)
    head, tuning = caplog.messages
    # Five steps an epoch, and nine.
    assert head.startswith("training the head takes 50 steps")
    assert "set train.epochs to 60 or more" in head
    assert tuning.startswith("tuning takes 18 steps")
    assert "set tune.epochs to 8 or more" in tuning
    caplog.clear()
    warn_of_few_steps(130, TrainParams(epochs=60), TuneParams(epochs=8, batch_size=16))
    warn_of_few_steps(3600, TrainParams(), None)
    assert not caplog.messages


def test_each_phase_smooths_labels_by_its_own_parameter(two_blocks: Workspace) -> None:
    train, tune = TrainParams(label_smoothing=0.3), TuneParams(label_smoothing=0.2)
    _, tuned = phase(two_blocks, tune, train)
    assert tuned.loop.objective == train.model_copy(update={"label_smoothing": 0.2})
    pooled = read_pooled(two_blocks, "train")
    classifier = small.untrained(two_blocks)
    assert probe_phase(classifier, pooled, pooled, train, seed=0).loop.objective == train


@pytest.mark.slow
def test_the_head_is_trained_before_the_backbone(two_blocks: Workspace) -> None:
    params = small.small_params(STRATEGY, train={"epochs": 3}, tune={"epochs": 2})
    fitted = fit(two_blocks, params)
    assert [row["phase"] for row in fitted.history] == [1, 1, 1, 2, 2]
    assert [row["epoch"] for row in fitted.history] == [1, 2, 3, 4, 5]
    # What is tuned begins where the head was best, and not from a random one.
    assert fitted.history[3]["validation_loss"] < fitted.history[0]["validation_loss"]


@pytest.mark.slow
def test_a_tuning_that_only_harms_leaves_the_head_as_it_was_best(two_blocks: Workspace) -> None:
    wild = {"epochs": 2, "learning_rate": 5.0, "warmup": 0}
    fitted = fit(two_blocks, small.small_params(STRATEGY, train={"epochs": 4}, tune=wild))
    alone = fit(
        two_blocks,
        small.small_params(
            STRATEGY, train={"epochs": 4}, tune={"epochs": 1, "learning_rate": 1e-9}
        ),
    )
    assert fitted.best_epoch <= 4
    assert fitted.validation_loss <= fitted.history[fitted.best_epoch - 1]["validation_loss"]
    assert fitted.history[:4] == alone.history[:4]
    backbone = fitted.classifier.get_layer(BACKBONE)
    untouched = small.untrained(two_blocks).get_layer(BACKBONE)
    assert variables_digest(backbone.variables) == variables_digest(untouched.variables)
