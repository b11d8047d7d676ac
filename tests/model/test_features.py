"""The second output of the exported model, and the reference that travels with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from graftline.core.backbones import family_of
from graftline.core.params import DriftParams
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.evaluation.feature_reference import REFERENCE_FILE, read_reference, write_reference
from graftline.evaluation.predictor import Predictor
from graftline.inference.drift.decision import judge
from graftline.network.classifier import BACKBONE, HEAD, POOLING, build_preparation
from graftline.network.keras_io import convert_to_litert
from graftline.network.runners.litert import LiteRunner
from graftline.training.datasets import read_pooled
from tests.model import small


def test_features_beside_the_probabilities_change_no_bit_of_them(
    last_block: Workspace, tmp_path: Path
) -> None:
    classifier = small.trained(last_block)
    backbone, pooling, head = (classifier.get_layer(name) for name in (BACKBONE, POOLING, HEAD))
    preparation = build_preparation(small.SIZE_PX, family_of(backbone).scaling, antialias=False)
    alone = tmp_path / "alone.tflite"
    alone.write_bytes(
        convert_to_litert(
            lambda images: head(pooling(backbone(preparation(images), training=False)))
        )
    )
    images = PackedImages.open(last_block.preprocessed).batch(np.arange(30))
    with LiteRunner(alone) as one, Predictor(last_block.trained) as predictor:
        expected = one.run(images)
        assert predictor.probabilities(images).tobytes() == expected.tobytes()
        probabilities, features = predictor.probabilities_and_features(images)
        assert probabilities.tobytes() == expected.tobytes()
        assert features.shape == (30, predictor.feature_dim)
    np.testing.assert_allclose(small.answers(head, features), expected, atol=1e-5)


def test_with_a_frozen_backbone_they_are_those_that_were_cached(head_only: Workspace) -> None:
    images = PackedImages.open(head_only.preprocessed)
    indices = images.indices("validation")
    with Predictor(head_only.trained) as predictor:
        _, features = predictor.probabilities_and_features(images.batch(indices))
    cached = read_pooled(head_only, "validation").read(np.arange(len(indices)))
    np.testing.assert_allclose(features, cached, rtol=1e-4, atol=1e-5)


def test_the_reference_tells_inverted_images_from_others(
    last_block: Workspace, tmp_path: Path
) -> None:
    reference = read_reference(last_block.trained)
    assert reference is not None
    images = PackedImages.open(last_block.preprocessed)
    assert len(reference.train) == len(images.indices("train"))
    with LiteRunner(last_block.trained / "model.tflite") as runner:
        write_reference(images, runner, 3, tmp_path / "again.npz")
    written = (last_block.trained / REFERENCE_FILE).read_bytes()
    assert (tmp_path / "again.npz").read_bytes() == written

    test = images.batch(images.indices("test"))
    for batch, alarm in ((test, False), (255 - test, True)):
        with Predictor(last_block.trained) as predictor:
            probabilities, features = predictor.probabilities_and_features(batch)
        sample = type(reference.train).of(features, probabilities)
        counts = np.bincount(sample.labels, minlength=len(small.CLASSES)).tolist()
        labels = dict(zip(small.CLASSES, counts, strict=True))
        drift = judge(reference, sample, labels, DriftParams()).drift
        assert drift.judged
        assert drift.alarm is alarm, drift.share
