"""What the runners give: the same features, within what each precision allows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graftline.compute import devices
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.evaluation.predictor import Predictor
from graftline.network.classifier import BACKBONE, POOLING, build_pooling, frozen_part
from graftline.network.cutting import build_base, cut_after
from graftline.network.opened_model import open_model
from graftline.network.runners.choosing import LITERT, Computing
from graftline.network.runners.keras_graph import KerasRunner
from graftline.network.runners.runner import Runner
from graftline.steps.extract import extract
from graftline.training.datasets import read_pooled
from tests.model import small

TOLERANCE = 1e-5
"""Of the largest feature: what two orders of adding in float32 differ by (docs/devices.md)."""
OF_16_BITS = 0.05


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """TensorFlow computes on the cores as it would on a card."""
    import tensorflow as tf
    from tensorflow.python.framework.config import disable_op_determinism

    rounded = tf.config.experimental.tensor_float_32_execution_enabled()
    monkeypatch.setattr(devices, "gpus", lambda: (devices.Gpu("pretended", (8, 0)),))
    yield
    disable_op_determinism()
    tf.config.experimental.enable_tensor_float_32_execution(rounded)


def images_of(workspace: Workspace) -> Any:
    return PackedImages.open(workspace.preprocessed).batch(np.arange(40))


def opened(workspace: Workspace, computing: Computing, folder: Path) -> Runner:
    classifier = small.untrained(workspace)
    backbone, pooling = classifier.get_layer(BACKBONE), classifier.get_layer(POOLING)
    path = folder / f"{computing.precision}{computing.ending}"
    computing.convert(frozen_part(backbone, small.SIZE_PX, pooling), backbone, path)
    return computing.open(path)


def off_by(given: Any, expected: Any) -> float:
    return float(np.abs(given - expected).max() / np.abs(expected).max())


def test_keras_gives_the_features_of_litert(
    assembled: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = images_of(assembled)
    with opened(assembled, LITERT, tmp_path) as runner:
        expected, dims = runner.run(images), runner.output_dims
    with opened(assembled, Computing("keras"), tmp_path) as runner:
        given = runner.run(images)
        assert runner.output_dims == dims
        assert runner.run(images).tobytes() == given.tobytes()
        parts = list(runner.run_all(iter(np.split(images, [8, 9, 33]))))
    assert off_by(given, expected) < TOLERANCE
    assert off_by(np.concatenate(parts), expected) < TOLERANCE
    monkeypatch.setattr("graftline.network.runners.keras_graph._CPU_IMAGES", 7)
    with opened(assembled, Computing("keras"), tmp_path) as runner:
        assert off_by(runner.run(images), expected) < TOLERANCE


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_keras_in_16_bits_is_near(precision: Any, assembled: Workspace, tmp_path: Path) -> None:
    images = images_of(assembled)
    with opened(assembled, LITERT, tmp_path) as runner:
        expected = runner.run(images)
    with opened(assembled, Computing("keras", precision), tmp_path) as runner:
        given = runner.run(images)
    assert given.dtype == np.float32
    assert TOLERANCE < off_by(given, expected) < OF_16_BITS


def test_a_card_whose_memory_is_short_takes_fewer_at_once(
    assembled: Workspace, tmp_path: Path
) -> None:
    import tensorflow as tf

    images, sizes = images_of(assembled), []
    with opened(assembled, Computing("keras"), tmp_path) as runner:
        assert isinstance(runner, KerasRunner)
        expected, whole = runner.run(images), runner._function

        def short(batch: Any) -> Any:
            if len(batch) > 20:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM")
            sizes.append(len(batch))
            return whole(batch)

        runner._function = short
        assert off_by(runner.run(images), expected) < TOLERANCE
        assert max(sizes) <= 20
        assert runner.most_images <= 20


def test_a_whole_model_answers_alike_on_either(head_only: Workspace) -> None:
    images = images_of(head_only)
    found = []
    for computing in (LITERT, Computing("keras")):
        with open_model(head_only.trained, computing, small.SIZE_PX) as runner:
            found.append(runner.run_outputs(images, 3))
    for litert, keras in zip(*found, strict=True):
        assert off_by(keras, litert) < 1e-4


@pytest.mark.usefixtures("pretended")
def test_steps_and_predictions_run_on_a_gpu(head_only: Workspace, tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorflow.python.framework.config import is_op_determinism_enabled

    workspace = small.copied(head_only, tmp_path)
    features = [read_pooled(workspace, "train").read(np.arange(20))]
    images = images_of(workspace)
    with Predictor(workspace.trained) as predictor:
        probabilities = predictor.probabilities(images)
    extract(workspace, small.small_params())
    # What is fastest at the moment may decide nothing, and TF32 is for those who ask for it.
    assert is_op_determinism_enabled()
    assert not tf.config.experimental.tensor_float_32_execution_enabled()
    features.append(read_pooled(workspace, "train").read(np.arange(20)))
    assert features[0].tobytes() != features[1].tobytes()
    assert off_by(features[1], features[0]) < TOLERANCE
    with Predictor(workspace.trained, "gpu") as predictor:
        np.testing.assert_allclose(predictor.probabilities(images), probabilities, atol=1e-4)


def test_openvino_runs_the_backbone_in_bfloat16_and_the_head_in_float32(
    head_only: Workspace,
) -> None:
    pytest.importorskip("openvino")
    images = images_of(head_only)
    computing = Computing("openvino", "bfloat16")
    with open_model(head_only.trained, LITERT, small.SIZE_PX) as runner:
        exact = runner.run_outputs(images, 3)
    with open_model(head_only.trained, computing, small.SIZE_PX) as runner:
        probabilities, features, logits = runner.run_outputs(images, 3)
        assert runner.output_dims == tuple(one.shape[1] for one in exact)
        # Whatever the size of a batch, the same bits.
        again = np.concatenate(list(runner.run_all(iter(np.split(images, [1, 9, 10])))))
    assert again.tobytes() == probabilities.tobytes()
    assert off_by(features, exact[1]) < OF_16_BITS
    with computing.open(head_only.assembled / "frozen.tflite") as runner:
        assert runner.run(images).tobytes() == features.tobytes()
    head = small.trained(head_only).get_layer("head")
    np.testing.assert_allclose(small.answers(head, features), probabilities, atol=1e-5)
    shifted = logits - logits.max(axis=1, keepdims=True)
    softmax = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, probabilities, atol=1e-6)


@pytest.mark.slow
def test_openvino_brings_images_of_any_shape_to_size(assembled: Workspace, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    size = small.SIZE_PX
    with (
        opened(assembled, LITERT, tmp_path) as exact,
        opened(assembled, Computing("openvino", "bfloat16"), tmp_path) as runner,
    ):
        for height, width, channels in [(size, size, 3), (size, 9, 3), (11, size, 1), (9, 12, 3)]:
            images = np.stack([small.pattern(at, height, width, channels, at) for at in range(3)])
            found = runner.run(images)
            assert off_by(found, exact.run(images)) < OF_16_BITS
            assert runner.run(images).tobytes() == found.tobytes()


@pytest.mark.slow
def test_mobilenet_at_96_px_is_the_same_on_either(tmp_path: Path) -> None:
    base = build_base(96, 1.0, seed=0)
    backbone = cut_after(base, "block_13_expand_relu")
    # Random weights make maps vanish; a network in use keeps them near 1.
    for layer in backbone.layers:
        if "depthwise" in layer.name and hasattr(layer, "depthwise_kernel"):
            layer.depthwise_kernel.assign(layer.depthwise_kernel * 3)
    function = frozen_part(backbone, 96, build_pooling("average"))
    images = np.stack([small.pattern(at % 3, 28, 28, 1, at) for at in range(64)])
    found = []
    for computing in (LITERT, Computing("keras")):
        path = tmp_path / f"frozen{computing.ending}"
        computing.convert(function, backbone, path)
        with computing.open(path) as runner:
            found.append(runner.run(images))
    assert off_by(found[1], found[0]) < TOLERANCE
