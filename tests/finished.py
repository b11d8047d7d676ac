"""A workspace as the steps leave it, with a model whose answers can be worked out by hand."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np

from graftline.core.files import write_text
from graftline.core.params import Params, params_from_record
from graftline.core.records import (
    Assembled,
    ClassMetrics,
    ClassReport,
    Dataset,
    ExportedModel,
    Exports,
    FreezePlan,
    LayerRecord,
    Metrics,
    OriginalModel,
    Trained,
)
from graftline.core.workspace import Workspace
from graftline.data.shards import ShardWriter, write_manifest
from graftline.formats.speeds import FormatSpeed, FormatSpeeds
from graftline.formats.table import markdown

CLASSES = ("dark", "bright")
SIZE_PX = 32
TEST_IMAGES = 1000
MODEL = Path(__file__).parent / "data" / "brightness.tflite"


def digest_of(text: str) -> str:
    """A SHA-256 in hexadecimal, different for each text."""
    return hashlib.sha256(text.encode()).hexdigest()


def some_params(**train: float) -> Params:
    """Valid parameters; ``train`` is that section."""
    record = {
        "seed": 7,
        "data": {"source": "mnist-5k"},
        "preprocess": {"size_px": SIZE_PX},
        "backbone": {"weights": "random", "cut": "block_13_expand_relu"},
        "freeze": {"strategy": {"last_blocks": 2}},
        "train": train,
    }
    return params_from_record(record, "here")


def write_params(workspace: Workspace) -> Params:
    """Writes a ``params.yaml`` that says the same as :func:`some_params`."""
    write_text(
        workspace.params_file,
        f"seed: 7\ndata: {{source: mnist-5k}}\npreprocess: {{size_px: {SIZE_PX}}}\n"
        "backbone: {weights: random, cut: block_13_expand_relu}\n"
        "freeze: {strategy: {last_blocks: 2}}\n",
    )
    return some_params()


def finish(workspace: Workspace, weights: str = "first", test_accuracy: float = 0.975) -> None:
    """Writes what all steps up to ``evaluate`` would have written.

    Args:
        workspace: Where.
        weights: Another text makes other weights.
        test_accuracy: What the metrics say.
    """
    write_params(workspace)
    write_text(workspace.root / "dvc.lock", "schema: '2.0'\n")
    _inputs(workspace)
    train(workspace, weights)
    evaluate(workspace, test_accuracy)


def train(workspace: Workspace, weights: str = "first") -> None:
    """Writes what ``train`` would have written."""
    workspace.trained.mkdir(parents=True, exist_ok=True)
    shutil.copy(MODEL, workspace.trained / "model.tflite")
    Trained(
        classes=CLASSES,
        size_px=SIZE_PX,
        best_epoch=2,
        epochs_run=3,
        validation_accuracy=0.97,
        validation_loss=0.11,
        weight_digest=digest_of(weights),
        frozen_digest_before=digest_of("frozen"),
        frozen_digest_after=digest_of("frozen"),
        trainable_params=1234,
        frozen_params=56789,
    ).write(workspace.trained / "trained.json")
    write_text(
        workspace.history,
        "epoch,loss,accuracy,validation_loss,validation_accuracy,learning_rate\n"
        "1,0.9,0.7,0.5,0.8,0.001\n2,0.3,0.9,0.11,0.97,0.001\n3,0.2,0.95,0.12,0.96,0.001\n",
    )


def evaluate(workspace: Workspace, test_accuracy: float = 0.975) -> None:
    """Writes what ``evaluate`` would have written."""
    metrics = Metrics(
        test_accuracy=test_accuracy,
        test_accuracy_low=test_accuracy - 0.01,
        test_accuracy_high=test_accuracy + 0.008,
        test_loss=0.09,
        test_macro_f1=0.974,
        expected_calibration_error=0.012,
        majority_baseline=0.5,
        test_images=1000,
    )
    write_text(workspace.metrics, metrics.model_dump_json(exclude={"classes"}))
    one = ClassMetrics(precision=0.9, recall=0.8, f1=0.85, support=500)
    report = ClassReport(classes={"dark": one, "bright": one})
    report.write(workspace.evaluation / "classes.json")
    (workspace.evaluation / "confusion_matrix.png").write_bytes(b"no real picture")
    right = np.arange(TEST_IMAGES) >= round((1 - test_accuracy) * TEST_IMAGES)
    write_predictions(workspace, right)


def write_predictions(
    workspace: Workspace, right: np.ndarray, labels: np.ndarray | None = None
) -> None:
    """Writes the part of ``predictions.parquet`` that says which test images were right."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = np.arange(len(right)) % 2 if labels is None else labels
    names = np.array(CLASSES, object)
    columns = {
        "sha256": hashes(len(right)),
        "label": names[labels],
        "predicted": names[np.where(right, labels, 1 - labels)],
    }
    pq.write_table(pa.table(columns), workspace.evaluation / "predictions.parquet")


def hashes(images: int) -> list[str]:
    """The hashes that the test images bear."""
    return [digest_of(f"image {number}") for number in range(images)]


def write_images(
    workspace: Workspace,
    images: int = TEST_IMAGES,
    wrong: int = 0,
    trained: range = range(0),
    labels: np.ndarray | None = None,
) -> None:
    """Writes a test split of tiny images, dark and bright ones in turn.

    Args:
        workspace: Where.
        images: How many.
        wrong: So many at the beginning look like the other class, which fools the model.
        trained: The numbers of the training images; below ``images`` they are those of the test
            split once more.
        labels: The test images' labels, if they are others.
    """
    workspace.loaded.mkdir(parents=True, exist_ok=True)
    labels = np.arange(images) % 2 if labels is None else labels
    seen = np.where(np.arange(images) < wrong, 1 - labels, labels)
    with ShardWriter(workspace.loaded) as shards:
        places = [shards.append(bytes([240 if one else 20] * 4)) for one in seen]
        places += [shards.append(bytes([20] * 4)) for _ in trained]
    shard, offset, length = zip(*places, strict=True)
    numbers = [*range(images), *trained]
    labels = np.array([*labels, *(0 for _ in trained)])
    columns = {
        "sha256": [digest_of(f"image {number}") for number in numbers],
        "label": labels,
        "class": [CLASSES[label] for label in labels],
        "split": ["test"] * images + ["train"] * len(trained),
        "source": [f"{number}.png" for number in numbers],
        "encoding": ["raw"] * len(numbers),
        "shard": shard,
        "offset": offset,
        "length": length,
        "height": [2] * len(numbers),
        "width": [2] * len(numbers),
        "channels": [1] * len(numbers),
    }
    write_manifest(workspace.loaded, columns)


def export(workspace: Workspace, weights: str = "first") -> None:
    """Writes what ``export`` would have written for ONNX, without the file itself."""
    exports = Exports(
        original=OriginalModel(
            sha256=digest_of("original"),
            size_bytes=3_000_000,
            accuracy=0.975,
            test_images=1000,
            weight_digest=digest_of(weights),
        ),
        exported=(
            ExportedModel(
                format="onnx",
                path="model.onnx",
                sha256=digest_of("onnx"),
                size_bytes=3_010_000,
                accuracy=0.975,
                agreement=0.9995,
                largest_drop=0.0,
                largest_drop_class=None,
                other_answers={"dark": 1},
            ),
        ),
    )
    exports.write(workspace.exports / "exports.json")
    write_text(workspace.exports_report / "table.md", markdown(exports))
    speed = FormatSpeed(sha256=digest_of("onnx"), images_per_second=250.0, load_s=0.5)
    FormatSpeeds(cores=2, measured={"onnx": speed}).write(FormatSpeeds.path_in(workspace))


def _inputs(workspace: Workspace) -> None:
    Dataset(
        source="mnist-5k",
        digest=digest_of("data"),
        classes=CLASSES,
        counts={
            "train": {"dark": 40, "bright": 40},
            "validation": {"dark": 5, "bright": 5},
            "test": {"dark": 500, "bright": 500},
        },
        given_splits=(),
        channels=(1,),
        min_height_px=28,
        max_height_px=28,
        min_width_px=28,
        max_width_px=28,
        corrupt=0,
        duplicates=0,
        leaks=0,
        conflicts=0,
    ).write(workspace.loaded / "dataset.json")
    write_images(workspace)
    layer = LayerRecord(
        name="block_13_expand_relu",
        kind="ReLU",
        block="block_13",
        params=0,
        multiply_adds=0,
        output_shape=(2, 2, 576),
        clean=True,
    )
    Assembled(
        backbone="MobileNetV2",
        alpha=1.0,
        size_px=SIZE_PX,
        cut="block_13_expand_relu",
        weights="random",
        weights_sha256=digest_of("base"),
        backbone_digest=digest_of("backbone"),
        layers=(layer,),
        pooling="average",
        head_units=(256,),
        dropout=0.3,
        classes=CLASSES,
    ).write(workspace.assembled / "assembled.json")
    FreezePlan(
        strategy="last_blocks: 2",
        cut="block_13_expand_relu",
        boundary="block_11_add",
        trainable=("block_12_expand",),
        batch_norm="keep",
        measured=False,
        reason="the last two blocks train",
    ).write(workspace.freeze_plan)
    write_text(workspace.freezing_report / "table.md", "| block | |\n")
