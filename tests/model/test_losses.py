"""Losses of networks whose answers no probability of 32 bits can hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graftline.core.checksums import seal
from graftline.core.params import HeadParams, TrainParams
from graftline.core.records import Trained
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.evaluation.predictor import Predictor
from graftline.network.classifier import HEAD, build_head, divide_logits, without_softmax
from graftline.network.model_files import export_model
from graftline.steps.evaluate import evaluate
from graftline.training.adam import Group
from graftline.training.datasets import Examples
from graftline.training.loop import Loop
from graftline.training.losses import cross_entropies
from graftline.training.measured import measured
from graftline.training.temperature import tempered
from tests.model import small


def test_in_training_and_validation() -> None:
    head = build_head(HeadParams(units=(), dropout=0, standardize=False), 2, 2, seed=0)
    # The features are the logits.
    head.set_weights([np.eye(2, dtype=np.float32), np.zeros(2, np.float32)])
    network = without_softmax(head)
    features = np.array([[0, 300], [40, 0], [0, 0], [-700, 700]], np.float32)
    labels = np.zeros(4, np.int32)
    groups = [Group(HEAD, network.trainable_variables, 1e-12)]
    loop = Loop(network, groups, TrainParams(), 4, labels, seed=0)
    examples = Examples(labels, lambda chosen: features[chosen], features[:1].nbytes)
    assert cross_entropies(loop.logits(examples), labels) == pytest.approx(
        [300, 4.2e-18, np.log(2), 1400], abs=1e-6
    )
    loss, right, finite = map(float, loop.train_on(features[None], labels[None]))
    assert (loss, right, finite) == (pytest.approx(300 + np.log(2) + 1400), 2, 1)
    # The softmax alone cannot tell them: 0 and 0 for both wrong answers.
    assert np.asarray(head(features))[[0, 3], 0].tolist() == [0, 0]


def test_of_the_exported_model(head_only: Workspace, tmp_path: Path) -> None:
    workspace = small.copied(head_only, tmp_path)
    classifier, images = small.trained(workspace), PackedImages.open(workspace.preprocessed)
    test = images.indices("test")
    divide_logits(classifier, 1e-3)
    size_px = Trained.read(workspace.trained / "trained.json").size_px
    export_model(classifier, size_px, workspace.trained)
    seal(workspace.trained)
    with Predictor(workspace.trained) as predictor:
        probabilities, logits = predictor.probabilities_and_logits(images.batch(test))
        assert probabilities.tobytes() == predictor.probabilities(images.batch(test)).tobytes()
    np.testing.assert_array_equal(logits.argmax(axis=1), probabilities.argmax(axis=1))
    labels = images.labels[test]
    losses = cross_entropies(logits, labels)
    # Some of the wrong answers have a probability of 0.
    assert losses.max() > 200
    assert evaluate(workspace, small.small_params()).test_loss == pytest.approx(losses.mean())
    # And they are those of the Keras file.
    head = without_softmax(classifier.get_layer(HEAD))
    features = classifier.get_layer("pooling")(
        classifier.get_layer("backbone")(classifier.get_layer("preparation")(images.batch(test)))
    )
    expected = cross_entropies(small.answers(head, features), labels).mean()
    assert losses.mean() == pytest.approx(expected, rel=1e-3)


def test_of_a_model_that_was_exported_without_logits(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(Path("tests/data/brightness.tflite").read_bytes())
    Trained(
        classes=("dark", "bright"),
        size_px=8,
        best_epoch=1,
        epochs_run=1,
        validation_accuracy=1,
        validation_loss=0,
        weight_digest="",
        frozen_digest_before="",
        frozen_digest_after="",
        trainable_params=0,
        frozen_params=0,
    ).write(tmp_path / "trained.json")
    images = np.stack([np.full((8, 8, 1), value, np.uint8) for value in (0, 120)])
    with Predictor(tmp_path) as predictor:
        _, logits = predictor.probabilities_and_logits(images)
    # Its logits are (127.5 - mean) / 16 and the opposite.
    assert cross_entropies(logits, np.array([1, 1])) == pytest.approx(
        [2 * 127.5 / 16, np.log1p(np.exp(2 * 7.5 / 16))], rel=1e-5
    )


def test_of_more_answers_than_are_kept_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    features = rng.normal(size=(1000, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 1000).astype(np.int32)
    head = build_head(HeadParams(units=(), dropout=0, standardize=False), 3, 3, seed=0)
    groups = [Group(HEAD, head.trainable_variables, 1e-12)]
    loop = Loop(without_softmax(head), groups, TrainParams(), 4, labels, seed=0)
    examples = Examples(labels, lambda chosen: features[chosen], features[:1].nbytes)
    whole = measured(loop, examples)
    monkeypatch.setattr("graftline.training.measured._KEPT_LOGITS", 0)
    monkeypatch.setattr("graftline.training.measured._SAMPLED_LOGITS", 1000)
    some = measured(loop, examples)
    assert some.right.tobytes() == whole.right.tobytes()
    assert some.losses.tobytes() == whole.losses.tobytes()
    # From every third image.
    expected = tempered(loop.logits(examples)[::3], labels[::3]).temperature
    assert some.tempered.temperature == expected
    assert some.tempered.losses.mean() == pytest.approx(whole.tempered.losses.mean(), rel=0.01)
