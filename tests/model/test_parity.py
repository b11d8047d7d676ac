"""One network, many ways to run it: cached or not, Keras or LiteRT, one channel or three."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import softmax

from graftline.core.backbones import MINUS_ONE_TO_ONE
from graftline.core.checksums import seal
from graftline.core.params import BackboneParams
from graftline.core.records import Assembled, Features, FreezePlan, Trained
from graftline.core.stages import POOLED
from graftline.core.workspace import Workspace
from graftline.data.resize import shrink
from graftline.data.shards import PackedImages
from graftline.evaluation.predictor import Predictor
from graftline.network.classifier import BACKBONE, HEAD, POOLING, build_preparation
from graftline.network.model_files import KERAS_FILE, WEIGHTS_FILE
from graftline.network.unfreezing import tuned_part
from graftline.steps.evaluate import evaluate
from graftline.steps.train import train
from tests.model import small

# Height and width: small, square, odd, long, of the network's own size.
SMALL_SIZES = [(1, 1), (7, 5), (20, 20), (31, 17), (32, 32), (3, 32)]
LARGE_SIZES = [(33, 33), (64, 64), (97, 41), (20, 75)]


# Pooled features are cached in 32 bits, feature maps in 16, of which 11 count.
@pytest.mark.parametrize(("fixture", "tolerance"), [("head_only", 1e-4), ("last_block", 1e-3)])
@pytest.mark.parametrize("split", [pytest.param("train", marks=pytest.mark.slow), "validation"])
def test_cached_features_give_what_the_images_give(
    fixture: str, tolerance: float, split: str, request: pytest.FixtureRequest
) -> None:
    workspace: Workspace = request.getfixturevalue(fixture)
    model, plan = small.trained(workspace), FreezePlan.read(workspace.freeze_plan)
    features = np.load(workspace.features / f"{split}.npy")
    pooled = plan.boundary == POOLED
    given = small.answers(
        model.get_layer(HEAD) if pooled else tuned_part(model, plan.boundary), features
    )
    cached = given if pooled else softmax(given, axis=1)
    packed = PackedImages.open(workspace.preprocessed)
    uncached = small.answers(model, packed.batch(packed.indices(split)))
    np.testing.assert_allclose(cached, uncached, atol=tolerance)


@pytest.mark.slow
def test_training_from_the_cache_ends_where_training_from_images_ends(
    last_block: Workspace, tmp_path: Path
) -> None:
    record = Trained.read(last_block.trained / "trained.json")
    uncached = small.copied(last_block, tmp_path)
    features = Features.read(uncached.features / "features.json")
    features.model_copy(update={"boundary": None, "shape": (), "dtype": None}).write(
        uncached.features / "features.json"
    )
    for split in ("train", "validation"):
        (uncached.features / f"{split}.npy").unlink()
    seal(uncached.features)
    slow = train(uncached, small.small_params({"last_blocks": 1}))
    assert slow.frozen_digest_after == record.frozen_digest_after
    assert slow.validation_loss == pytest.approx(record.validation_loss, abs=5e-3)
    packed = PackedImages.open(uncached.preprocessed)
    images = packed.batch(packed.indices("validation"))
    np.testing.assert_allclose(
        small.answers(small.trained(last_block), images),
        small.answers(small.trained(uncached), images),
        atol=0.02,
    )


@pytest.mark.parametrize("fixture", ["head_only", "last_block"])
@pytest.mark.parametrize("channels", [1, 3])
def test_litert_answers_as_keras_does(
    fixture: str, channels: int, request: pytest.FixtureRequest
) -> None:
    workspace: Workspace = request.getfixturevalue(fixture)
    model = small.trained(workspace)
    images = [
        small.pattern(seed % 3, height, width, channels, seed)
        for seed, (height, width) in enumerate(SMALL_SIZES + LARGE_SIZES)
    ]
    with Predictor(workspace.trained) as predictor:
        fast = predictor.probabilities(images)
    np.testing.assert_allclose(fast.sum(axis=1), 1, atol=1e-5)
    for image, row in zip(images, fast, strict=True):
        # Larger ones are shrunk before, by the one function that does it everywhere.
        slow = small.answers(model, shrink(image, small.SIZE_PX)[None])[0]
        np.testing.assert_allclose(row, slow, atol=1e-4, err_msg=str(image.shape))


@pytest.mark.parametrize(("height", "width"), LARGE_SIZES)
def test_the_networks_own_shrinking_is_that_of_preprocess(height: int, width: int) -> None:
    image = small.pattern(2, height, width, 3, seed=height)
    inside = np.asarray(build_preparation(small.SIZE_PX, MINUS_ONE_TO_ONE)(image[None]))[0]
    before = np.asarray(
        build_preparation(small.SIZE_PX, MINUS_ONE_TO_ONE)(shrink(image, small.SIZE_PX)[None])
    )[0]
    # In steps of grey: the one rounds to whole steps in between, once per direction.
    assert np.abs(inside - before).max() * 127.5 <= 2.5


def test_grey_is_three_equal_channels(head_only: Workspace) -> None:
    model = small.trained(head_only)
    grey = np.stack([small.pattern(label, 20, 20, 1, label) for label in range(3)])
    np.testing.assert_array_equal(
        small.answers(model, grey), small.answers(model, np.repeat(grey, 3, axis=-1))
    )


def test_the_preparation_scales_to_minus_one_to_one() -> None:
    prepared = np.asarray(
        build_preparation(small.SIZE_PX, MINUS_ONE_TO_ONE)(
            np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
        )
    )
    assert prepared.shape == (2, small.SIZE_PX, small.SIZE_PX, 3)
    np.testing.assert_allclose(prepared[0], -1, atol=1e-6)
    np.testing.assert_allclose(prepared[1], 1, atol=1e-6)


def test_the_exported_file_loads_in_safe_mode_and_holds_stock_layers(head_only: Workspace) -> None:
    import keras

    path = head_only.trained / KERAS_FILE
    model = keras.saving.load_model(path, compile=False, safe_mode=True)
    names = {type(layer).__module__.split(".")[0] for layer in model._flatten_layers()}
    assert names == {"keras"}
    with zipfile.ZipFile(path) as archive:
        assert b"Lambda" not in archive.read("config.json")
    images = np.stack([small.pattern(label, 9, 14, 3, label) for label in range(3)])
    expected = small.answers(model, images)
    assert expected.shape == (3, 3)
    fresh = small.untrained(head_only)
    assert not np.allclose(small.answers(fresh, images), expected)
    fresh.load_weights(head_only.trained / WEIGHTS_FILE)
    np.testing.assert_array_equal(small.answers(fresh, images), expected)


def test_the_backbone_runs_in_inference_mode_while_the_head_trains(head_only: Workspace) -> None:
    model = small.trained(head_only)
    before = [value.copy() for value in model.get_layer(BACKBONE).get_weights()]
    images = np.stack([small.pattern(label % 3, 20, 20, 1, label) for label in range(16)])
    for _ in range(3):
        model(images, training=True)
    for old, new in zip(before, model.get_layer(BACKBONE).get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [layer.name for layer in model.layers if layer.name in (BACKBONE, POOLING, HEAD)] == [
        BACKBONE,
        POOLING,
        HEAD,
    ]


@pytest.mark.slow
def test_another_backbone_goes_all_the_way(tmp_path: Path) -> None:
    # Its inputs are scaled otherwise than MobileNetV2's, channel by channel.
    backbone = BackboneParams(name="EfficientNetV2B0", weights="random", cut="block2b_add")
    workspace = Workspace(tmp_path)
    small.write_source(workspace.root)
    params = small.small_params({"last_blocks": 1}).model_copy(update={"backbone": backbone})
    small.prepare(workspace, params)
    small.finish(workspace, params)
    assembled = Assembled.read(workspace.assembled / "assembled.json")
    assert (assembled.backbone, assembled.cut) == (backbone.name, backbone.cut)
    assert assembled.layers[-1].name == "top_activation"
    model, plan = small.trained(workspace), FreezePlan.read(workspace.freeze_plan)
    packed = PackedImages.open(workspace.preprocessed)
    maps = np.load(workspace.features / "validation.npy")
    cached = softmax(small.answers(tuned_part(model, plan.boundary), maps), axis=1)
    uncached = small.answers(model, packed.batch(packed.indices("validation")))
    np.testing.assert_allclose(cached, uncached, atol=2e-3)
    images = [small.pattern(label, 20, 27, 3, label) for label in range(3)]
    with Predictor(workspace.trained) as predictor:
        fast = predictor.probabilities(images)
    np.testing.assert_allclose(fast, small.answers(model, np.stack(images)), atol=1e-4)


def test_evaluation_and_prediction_agree(last_block: Workspace, tmp_path: Path) -> None:
    workspace = small.copied(last_block, tmp_path)
    metrics = evaluate(workspace, small.small_params({"last_blocks": 1}))
    written = pq.read_table(workspace.evaluation / "predictions.parquet").to_pydict()
    packed = PackedImages.open(workspace.loaded)
    test = packed.indices("test")
    assert metrics.test_images == len(test) == len(set(written["sha256"]))
    with Predictor(workspace.trained) as predictor:
        one_by_one = [
            predictor.probabilities([packed.image(int(index))])[0].max() for index in test
        ]
    assert written["probability"] == pytest.approx(one_by_one, abs=1e-6)
    right = np.array(written["label"]) == np.array(written["predicted"])
    assert metrics.test_accuracy == right.mean()
