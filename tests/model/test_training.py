"""Training: the same for the same seed, the best weights kept, and stopped when it diverges."""

from __future__ import annotations

import csv
from pathlib import Path

import keras
import numpy as np
import pytest

from graftline.core.checksums import seal
from graftline.core.errors import TrainingDivergedError, UserError
from graftline.core.records import Features, FreezePlan, Preprocessed, Trained, WhiteLevels
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.network.classifier import HEAD, divide_logits
from graftline.steps import train as train_module
from graftline.steps.evaluate import evaluate
from graftline.steps.train import train
from graftline.training.adam import Group
from graftline.training.datasets import read_pooled
from graftline.training.loop import Loop, class_weights
from graftline.training.phases import probe_phase
from tests.model import small


def _history(workspace: Workspace) -> list[dict[str, float]]:
    with workspace.history.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _images(workspace: Workspace, split: str) -> tuple[np.ndarray, np.ndarray]:
    packed = PackedImages.open(workspace.preprocessed)
    indices = packed.indices(split)
    return packed.batch(indices), packed.labels[indices]


def test_it_learns(head_only: Workspace) -> None:
    record = Trained.read(head_only.trained / "trained.json")
    assert record.validation_accuracy > 0.7
    history = _history(head_only)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]


def test_the_rule_of_the_images_travels_with_the_model(
    head_only: Workspace, tmp_path: Path
) -> None:
    workspace = small.copied(head_only, tmp_path / "deep")
    record = workspace.preprocessed / "preprocessed.json"
    white = WhiteLevels(level=4095, kinds=("16-bit",))
    Preprocessed.read(record).model_copy(update={"white": white}).write(record)
    seal(workspace.preprocessed)
    assert train(workspace, small.small_params("all")).white == white
    assert Trained.read(workspace.trained / "trained.json").white == white


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_metrics(
    last_block: Workspace, tmp_path: Path
) -> None:
    # From the very beginning, and after other networks have drawn random numbers.
    again, params = Workspace(tmp_path / "again"), small.small_params({"last_blocks": 1})
    small.write_source(again.root)
    keras.utils.set_random_seed(12345)
    small.prepare(again, params)
    small.finish(again, params)
    for file in ("trained.json", "model.weights.h5", "model.keras", "model.tflite"):
        written = (again.trained / file).read_bytes()
        assert written == (last_block.trained / file).read_bytes(), file
    assert again.history.read_bytes() == last_block.history.read_bytes()
    done = small.copied(last_block, tmp_path / "done")
    assert evaluate(again, params) == evaluate(done, params)
    assert again.metrics.read_bytes() == done.metrics.read_bytes()


def test_what_is_exported_scores_what_the_history_says(last_block: Workspace) -> None:
    record = Trained.read(last_block.trained / "trained.json")
    best = _history(last_block)[record.best_epoch - 1]
    images, labels = _images(last_block, "validation")
    probabilities = small.answers(small.trained(last_block), images)
    loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert loss == pytest.approx(record.validation_loss, abs=1e-4)
    # The temperature makes nothing worse and changes no answer.
    assert record.temperature != 1
    assert loss <= best["validation_loss"] + 0.01
    assert (probabilities.argmax(axis=1) == labels).mean() == pytest.approx(
        best["validation_accuracy"]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "rules",
    [
        pytest.param({"label_smoothing": 0.3}, id="smoothed", marks=pytest.mark.slow),
        pytest.param({"mixup": 0.5}, id="mixed", marks=pytest.mark.slow),
        pytest.param({"ema": 0.9, "label_smoothing": 0.1}, id="averaged"),
    ],
)
def test_confidences_of_the_head_alone_are_mended(
    rules: dict[str, float], head_only: Workspace, tmp_path: Path
) -> None:
    workspace = small.copied(head_only, tmp_path)
    record = train(workspace, small.small_params(train=rules))
    # Soft labels make it too modest; what it learns by heart, too bold: see the next test.
    assert record.temperature < 1
    before = _history(workspace)[record.best_epoch - 1]["validation_loss"]
    assert record.validation_loss < before
    images, labels = _images(workspace, "validation")
    model = small.trained(workspace)
    exported = small.answers(model, images)
    rows = np.arange(len(labels))
    assert -np.log(exported[rows, labels]).mean() == pytest.approx(record.validation_loss, abs=1e-4)
    divide_logits(model, 1 / record.temperature)
    as_trained = small.answers(model, images)
    assert -np.log(as_trained[rows, labels]).mean() == pytest.approx(before, rel=1e-2)
    assert (as_trained.argmax(axis=1) == exported.argmax(axis=1)).all()


@pytest.mark.slow
def test_early_stopping_keeps_none_that_are_worse_than_the_best(
    head_only: Workspace, tmp_path: Path
) -> None:
    workspace = small.copied(head_only, tmp_path)
    # Features of pure noise are learnt by heart, so that the validation loss soon rises.
    random = np.random.default_rng(0)
    for split in ("train", "validation"):
        path = workspace.features / f"{split}.npy"
        np.save(path, random.normal(size=np.load(path).shape).astype(np.float32))
    seal(workspace.features)
    rules = {"epochs": 60, "learning_rate": 0.05, "early_stopping_patience": 3}
    record = train(workspace, small.small_params(train=rules))

    losses = [row["validation_loss"] for row in _history(workspace)]
    lowest = int(np.argmin(losses)) + 1
    assert record.epochs_run == len(losses) == lowest + 3 < 60
    assert losses[-1] > losses[lowest - 1]
    assert lowest <= record.best_epoch
    # The temperature that suits it best makes it lower.
    assert record.temperature > 1
    assert record.validation_loss < losses[record.best_epoch - 1]
    head = small.trained(workspace).get_layer(HEAD)
    features = np.load(workspace.features / "validation.npy")
    _, labels = _images(workspace, "validation")
    kept = small.answers(head, features)[np.arange(len(labels)), labels]
    assert -np.log(kept).mean() == pytest.approx(record.validation_loss, abs=1e-4)


def test_want_of_memory_names_what_to_lower(
    head_only: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    def short(*_: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(Loop, "train_on", short)
    params = small.small_params()
    with pytest.raises(UserError, match=f"batches of {params.train.batch_size} images") as caught:
        train(small.copied(head_only, tmp_path), params)
    assert caught.value.where == "train.batch_size"


@pytest.mark.parametrize("poison", [np.nan, pytest.param(np.inf, marks=pytest.mark.slow)])
def test_divergence_stops_and_keeps_the_last_good_weights(
    poison: float, head_only: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = small.copied(head_only, tmp_path)
    earlier = {path: path.read_bytes() for path in workspace.trained.iterdir()}
    earlier[workspace.history] = workspace.history.read_bytes()
    params = small.small_params()
    # It would meet the odd feature before the loop does.
    monkeypatch.setattr(train_module, "set_standardization", lambda *_: None)
    features = np.load(workspace.features / "train.npy")
    # The last example of the first epoch's order: many good steps come before it.
    last = np.random.default_rng((params.seed, 1)).permutation(len(features))[-1]
    features[last] = poison
    np.save(workspace.features / "train.npy", features)
    seal(workspace.features)

    with pytest.raises(TrainingDivergedError) as caught:
        train(workspace, params)
    assert "epoch 1" in str(caught.value)
    assert caught.value.exit_code == 2
    assert f"train.learning_rate: {params.train.learning_rate:g}" in str(caught.value.where)
    assert {path: path.read_bytes() for path in earlier} == earlier
    (kept,) = (workspace.var / "checkpoints").glob("*.h5")
    assert str(kept) in str(caught.value.fix)
    head = small.untrained(workspace).get_layer(HEAD)
    fresh = [weight.copy() for weight in head.get_weights()]
    head.load_weights(kept)
    good = head.get_weights()
    assert all(np.isfinite(weight).all() for weight in good)
    assert not all(map(np.array_equal, fresh, good))


def test_training_neither_asks_for_test_images_nor_feels_what_they_hold(
    head_only: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    shown: set[str] = set()
    indices, batch = PackedImages.indices, PackedImages.batch

    def noting_indices(self: PackedImages, split: str) -> np.ndarray:
        asked.append(split)
        return indices(self, split)

    def noting_batch(self: PackedImages, chosen: np.ndarray) -> np.ndarray:
        shown.update(str(self.splits[index]) for index in chosen)
        return batch(self, chosen)

    workspace = small.copied(head_only, tmp_path)
    packed = PackedImages.open(workspace.preprocessed)
    held, shard = packed.indices("test"), workspace.preprocessed / "images-00000.bin"
    pixels = np.fromfile(shard, np.uint8).reshape(len(packed), -1)
    pixels[held] = 255 - pixels[held]
    pixels.tofile(shard)
    seal(workspace.preprocessed)

    monkeypatch.setattr(PackedImages, "indices", noting_indices)
    monkeypatch.setattr(PackedImages, "batch", noting_batch)
    record = small.finish(workspace, small.small_params("all"))
    assert set(asked) == shown == {"train", "validation"}
    assert record == Trained.read(head_only.trained / "trained.json")


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_rate_follows_its_schedule(schedule: str, head_only: Workspace) -> None:
    params = small.small_params(train={"schedule": schedule, "epochs": 2})
    examples = read_pooled(head_only, "train")
    classifier = small.untrained(head_only)
    loop = probe_phase(classifier, examples, examples, params.train, params.seed).loop
    rates = [loop.learning_rate()]
    for epoch in (1, 2):
        for images, labels in examples.chunks(16, loop.order(len(examples), epoch)):
            loop.train_on(images, labels)
        rates.append(loop.learning_rate())
    expected = {"constant": [0.01, 0.01, 0.01], "cosine": [0.01, 0.005, 0]}[schedule]
    assert rates == pytest.approx(expected, abs=1e-8)


def test_balanced_weights_count_each_class_the_same() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2], np.int32)
    weights = class_weights(labels, 3, "balanced")
    assert (weights[labels].sum(), *(weights * [6, 3, 1])) == pytest.approx((10, *[10 / 3] * 3))
    assert class_weights(labels, 3, "none").tolist() == [1, 1, 1]


def test_every_epoch_shows_every_example_once_in_an_order_of_its_own(head_only: Workspace) -> None:
    examples = read_pooled(head_only, "train")
    params = small.small_params()
    head = small.untrained(head_only).get_layer(HEAD)
    groups = [Group(HEAD, head.trainable_variables, 0.01)]
    loop, other = (
        Loop(head, groups, params.train, 16, examples.labels, params.seed + more) for more in (0, 1)
    )
    orders = [loop.order(len(examples), 1), loop.order(len(examples), 2)]
    orders.append(other.order(len(examples), 1))
    assert len({order.tobytes() for order in orders}) == len(orders)
    for order in orders:
        assert sorted(order) == list(range(len(examples)))
        labels = [batch for _, batch in examples.chunks(16, order)]
        assert np.concatenate([batch.ravel() for batch in labels]).tolist() == (
            examples.labels[order].tolist()
        )


def test_features_of_another_plan_are_not_taken_for_these(
    head_only: Workspace, last_block: Workspace
) -> None:
    assert Features.read(head_only.features / "features.json").boundary == "pooled"
    plan = FreezePlan.read(last_block.freeze_plan)
    features = Features.read(last_block.features / "features.json")
    assert features.boundary == plan.boundary not in (None, "pooled")
    assert set(features.counts) == {"train", "validation"}
    assert {path.name for path in last_block.features.iterdir()} == {
        "XXH128SUMS",
        "features.json",
        "train-pooled.npy",
        "train.npy",
        "validation-pooled.npy",
        "validation.npy",
    }
    assert {path.name for path in head_only.features.iterdir()} == {
        "XXH128SUMS",
        "features.json",
        "train.npy",
        "validation.npy",
    }
