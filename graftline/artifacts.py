"""The frozen records that cross from one step to the next, each a small JSON file.

They hold nothing that changes between two runs of the same inputs (no times, no hosts), so that
DVC sees the same output where the same work was done.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from graftline.checksums import damaged, sha256_bytes, verify
from graftline.errors import MissingOutputError
from graftline.storage import write_text

ExportFormat = Literal["litert_float32", "litert_float16", "litert_int8", "saved_model", "onnx"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_SEALED = re.compile(rb'(.*),\n  "sha256": \["([0-9a-f]{64})"\]\n}\n?', re.DOTALL)


class Record(BaseModel):
    """A frozen record that is written as JSON and read back strictly."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads the record that a step wrote.

        Raises:
            DamagedFileError: If its folder lists another checksum for it.
            MissingOutputError: If it is not there, or is not what this version writes.
        """
        verify(path)
        try:
            return cls.model_validate_json(cls._checked(path.read_bytes(), path))
        except FileNotFoundError as error:
            raise MissingOutputError(
                f"{path} is not there yet",
                where=str(path),
                fix="run the steps before it: dvc repro, or python -m flows.train",
            ) from error
        except OSError as error:
            raise MissingOutputError(
                f"{path} cannot be read: {error.strerror or error}",
                where=str(path),
                fix="run dvc repro, which writes it anew",
            ) from error
        except ValidationError as error:
            raise MissingOutputError(
                f"{path} was written by another version of Graftline",
                where=str(path),
                fix="run dvc repro, which writes it anew",
            ) from error

    def write(self, path: Path) -> None:
        """Writes the record in one move."""
        write_text(path, self._text() + "\n")

    def _text(self) -> str:
        return self._json()

    def _json(self) -> str:
        return self.model_dump_json(indent=2)

    @classmethod
    def _checked(cls, content: bytes, path: Path) -> bytes:
        """The content without what only tells whether it is whole."""
        return content


class SealedRecord(Record):
    """A record that is alone in its place, and so holds its checksum: in its last line but one.

    As a list, since DVC would show a text among the metrics.
    """

    def _text(self) -> str:
        text = self._json().removesuffix("\n}")
        return f'{text},\n  "sha256": ["{sha256_bytes(text.encode())}"]\n}}'

    @classmethod
    def _checked(cls, content: bytes, path: Path) -> bytes:
        found = _SEALED.fullmatch(content)
        if found is not None and sha256_bytes(found[1]) == found[2].decode():
            return found[1] + b"\n}"
        try:
            # One that an earlier version wrote has no checksum. No bit makes such a one of another.
            cls.model_validate_json(content)
        except ValidationError as error:
            raise damaged(path) from error
        return content


class WhiteLevels(Record):
    """What is white in images of more than 8 bits; see :mod:`graftline.white_levels`.

    It travels from ``load`` to the trained model, so that every later image is read by the rule of
    the images that the model was trained on.
    """

    level: float | None = None
    """``data.white_level`` as it was; null: all that the image's own kind can hold."""
    kinds: tuple[str, ...] = ()
    """The kinds of such images that the data set holds, as in ``16-bit``."""


class Dataset(Record):
    """``data/loaded/dataset.json``: what ``load`` found."""

    source: str
    digest: str
    """SHA-256 over content, label and split of every image, in the manifest's order."""
    classes: tuple[str, ...]
    """Class names; a label is an index into them."""
    counts: dict[Split, dict[str, int]]
    """Images by split and class name."""
    given_splits: tuple[Split, ...]
    """The splits that came from the source itself; the others were generated."""
    channels: tuple[int, ...]
    """The channel counts that occur: 1, 3 or both."""
    min_height_px: int
    max_height_px: int
    min_width_px: int
    max_width_px: int
    corrupt: int
    """Images that were skipped since they could not be decoded."""
    duplicates: int
    """Images that repeat an earlier one, pixel for pixel."""
    leaks: int
    """Different images that stand in more than one given split."""
    conflicts: int
    """Different images that stand under more than one label."""
    white: WhiteLevels = WhiteLevels()
    """How images of more than 8 bits are read."""

    @property
    def most_frequent(self) -> str:
        """The class of the most training images; of several, the first."""
        counts = self.counts["train"]
        return max(self.classes, key=lambda name: counts.get(name, 0))

    def total(self, split: Split | None = None) -> int:
        """The number of images in one split, or in all."""
        splits = SPLITS if split is None else (split,)
        return sum(sum(self.counts.get(name, {}).values()) for name in splits)


class Preprocessed(Record):
    """``data/preprocessed/preprocessed.json``: the images as the model takes them."""

    dataset_digest: str
    size_px: int
    classes: tuple[str, ...]
    counts: dict[Split, int]
    uniform_shape: tuple[int, int, int] | None
    """Height, width, channels if all images share them."""
    shrunk: int
    """Images that were larger than size_px in some direction."""
    white: WhiteLevels = WhiteLevels()
    """The data set's."""


class LayerRecord(Record):
    """One layer of the trunk, in order from the input."""

    name: str
    kind: str
    """The Keras class, as in ``Conv2D``."""
    block: str
    """The block that it belongs to: ``stem``, ``block_0``, ``block_1`` and so on, ``top``."""
    params: int
    """The number of weights, statistics included."""
    multiply_adds: int
    """Multiplications with an addition that one image costs."""
    output_shape: tuple[int, ...]
    """Height, width, channels."""
    clean: bool
    """Whether all that follows depends on this layer's output alone (no shortcut passes it by)."""


class Assembled(Record):
    """``models/assembled/assembled.json``: the trunk, where it is cut, and the head to come."""

    backbone: str
    alpha: float
    size_px: int
    cut: str
    weights: str
    """What the base weights are, as in ``params.yaml``."""
    weights_sha256: str | None
    """Of the file that they came from; null for random weights."""
    trunk_digest: str
    """SHA-256 over every variable of the trunk up to the cut."""
    layers: tuple[LayerRecord, ...]
    """Of the whole trunk, those after the cut too."""
    pooling: Literal["average", "max"]
    head_units: tuple[int, ...]
    dropout: float
    classes: tuple[str, ...]

    def up_to(self, cut: str) -> tuple[LayerRecord, ...]:
        """The layers up to and with one of them."""
        names = [layer.name for layer in self.layers]
        return self.layers[: names.index(cut) + 1]

    def feature_dim(self, cut: str) -> int:
        """Channels at a layer, which is what pooling gives there."""
        return self.up_to(cut)[-1].output_shape[-1]


class FreezePlan(SealedRecord):
    """``models/freeze_plan.json``: which layers train."""

    strategy: str
    """As a parameter would name it; that which was chosen, if measurement chose it."""
    cut: str
    boundary: str | None
    """The last layer of the frozen prefix: ``pooled`` when the whole trunk is frozen, else a
    layer's name; null when the very first layers train, so that nothing can be cached."""
    trainable: tuple[str, ...]
    """The trunk's layers that train. BatchNormalization is never among them."""
    batch_norm: Literal["keep", "adapt"]
    """Whether BatchNormalization statistics are those of the base weights, or of these images."""
    measured: bool
    """Whether measurement chose it (``auto``), rather than the parameters."""
    reason: str


class Features(Record):
    """``data/features/features.json``: the frozen part's outputs, and the pooled features."""

    cut: str
    """As in the plan: where the trunk ends and the pooled features are taken."""
    boundary: str | None
    """The layer whose outputs are cached, or ``pooled``; with null, training reads images."""
    shape: tuple[int, ...]
    """Of one image's outputs at the boundary; empty when there are none."""
    dtype: Literal["float16", "float32"] | None
    """Of the outputs at the boundary; null when there are none."""
    counts: dict[Split, int]
    """Images by split: ``train`` and ``validation`` only."""
    views: int
    """Of each training image. Above 1 the training split's arrays begin with an axis of views, of
    which the first are the unchanged images."""
    pooled_dim: int
    """The number of pooled features, which are always kept."""
    uncached_reason: str | None
    """Why no outputs at a boundary are kept; null when they are."""


class Trained(Record):
    """``models/trained/trained.json``: what training ended with."""

    classes: tuple[str, ...]
    size_px: int
    best_epoch: int
    """The one whose weights were kept, counted from 1."""
    epochs_run: int
    validation_accuracy: float
    validation_loss: float
    """Of the exported weights. One number, the temperature, was chosen for it on the same images,
    so that other images' loss is a little higher; that of the epochs is in the history."""
    temperature: float = 1.0
    """What the logits were divided by, so that confidences suit the validation answers best: above
    1 where the network was too bold, below where it was too modest. Part of the exported weights.
    """
    weight_digest: str
    """SHA-256 over every variable of the exported model."""
    frozen_digest_before: str
    frozen_digest_after: str
    """SHA-256 over every frozen variable, BatchNormalization statistics included."""
    trainable_params: int
    frozen_params: int
    history_sha256: str | None = None
    """Of ``reports/history.csv``; null in a record of an earlier version."""
    white: WhiteLevels = WhiteLevels()
    """How images of more than 8 bits are read: by the rule of the training images."""


class ClassMetrics(Record):
    """Test metrics of one class."""

    precision: float
    recall: float
    f1: float
    support: int


class ClassReport(Record):
    """``reports/evaluation/classes.json``: test metrics by class name."""

    classes: dict[str, ClassMetrics]


class Metrics(SealedRecord):
    """``reports/metrics.json``: the exported model on the whole test split."""

    test_accuracy: float
    test_accuracy_low: float
    """Lower end of the 95 % interval."""
    test_accuracy_high: float
    test_loss: float
    test_macro_f1: float
    expected_calibration_error: float
    majority_baseline: float
    """Accuracy of always naming the most frequent class of the training split."""
    test_images: int
    classes: dict[str, ClassMetrics] = {}
    """By class name. They lie in ``evaluation/classes.json``, so that ``metrics.json`` stays a
    short row for ``dvc metrics show``; :meth:`read` brings the two together."""

    def _json(self) -> str:
        return self.model_dump_json(indent=2, exclude={"classes"})

    @property
    def balanced_accuracy(self) -> float | None:
        """The mean recall of the classes that have test images; null where they are not known."""
        recalls = [one.recall for one in self.classes.values() if one.support]
        return sum(recalls) / len(recalls) if recalls else None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads ``metrics.json`` and, where it is there, ``evaluation/classes.json`` beside it."""
        metrics = super().read(path)
        of_classes = path.parent / "evaluation" / "classes.json"
        if metrics.classes or not of_classes.is_file():
            return metrics
        return metrics.model_copy(update={"classes": ClassReport.read(of_classes).classes})


class ExportedModel(Record):
    """One file, or folder, that was made of the trained model, as the whole test split found it."""

    format: ExportFormat
    path: str
    """Within ``models/exports/``."""
    sha256: str
    """Of the file; of a folder, over its files' names and their own."""
    size_bytes: int
    accuracy: float
    agreement: float
    """Share of the test images that get the same label as from ``model.tflite``."""
    largest_drop: float
    """By how much the recall of the class falls that loses the most; 0 if none loses."""
    largest_drop_class: str | None
    other_answers: dict[str, int]
    """Test images of each class, by name, whose label differs; classes without any are left out."""


class OriginalModel(Record):
    """``models/trained/model.tflite``, which exported models are held against."""

    sha256: str
    size_bytes: int
    accuracy: float
    test_images: int
    weight_digest: str
    """As in ``trained.json``."""


class Exports(Record):
    """``models/exports/exports.json``: the exported models, and the original beside them."""

    original: OriginalModel | None
    """Null where nothing was to be exported, so that nothing was measured."""
    exported: tuple[ExportedModel, ...]
