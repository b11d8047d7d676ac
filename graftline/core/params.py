"""The parameters: typed, strict and frozen; the only reader of ``params.yaml``.

Sections are named by the step that they belong to, so that DVC depends on them by key.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    NodeEvent,
)

from graftline.core.backbones import DEFAULT, FAMILIES, STANFORD_DOGS, Family
from graftline.core.errors import ParamsError
from graftline.core.records import ExportFormat
from graftline.core.redaction import names_a_user, without_secrets

STRATEGY_FORMS = (
    "auto; all; none; last_blocks: n; first_blocks: n; from_layer: name (n a whole number from 1 "
    "on)"
)
BUDGET_FORMS = "a share above 0 up to 10; seconds: n (a whole number from 1 on); off"
SOURCES_WITH_PATH = ("idx", "npz", "folder", "manifest")
TABLE_ENDINGS = (".csv", ".tsv", ".parquet")
"""How the names of tables end, in small letters."""
MAX_IMAGE_PX = 50_000_000
"""Of an image, width x height, where ``data.max_image_px`` says nothing else."""
ALPHAS = tuple(sorted({alpha for family in FAMILIES.values() for alpha in family.alphas}))
"""The widths of all trunks; each takes some of them."""
NAMED_WEIGHTS = ("stanford-dogs", "imagenet", "random")

_MAX_FILE_BYTES = 1 << 16
_MAX_NODES, _MAX_DEPTH = 10_000, 40
_PLAIN_SIGNS = 200

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[^/\\]+$")]
HomePath = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path of which ``~`` and ``~name`` at the beginning are a home."""
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataParams(_Section):
    """What ``load`` reads and how it splits."""

    source: Literal["mnist-5k", "mnist", "idx", "npz", "folder", "manifest"] = Field(
        description="The kind of image source."
    )
    path: Annotated[HomePath, Field(min_length=1)] | None = Field(
        default=None,
        description="A folder (idx, folder, manifest) or file (npz), absolute, from ~ on, or "
        "relative to the checkout. Null for the sources that need none.",
    )
    manifest: FileName = Field(
        default="manifest.csv",
        description="For source manifest: the table's name inside path (.csv, .tsv or .parquet). "
        "CSV may be parted by commas, semicolons or tabs.",
    )
    on_corrupt: Literal["fail", "skip"] = Field(
        default="fail", description="What to do with images that cannot be decoded."
    )
    on_leak: Literal["warn", "fail"] = Field(
        default="warn",
        description="What to do with identical images across given splits.",
    )
    on_similar_classes: Literal["fail", "warn"] = Field(
        default="fail",
        description="What to do with classes whose names look alike: cat and Cat, 1 and 1.0, or "
        "names that differ in spaces or in signs that cannot be seen.",
    )
    validation_fraction: Fraction = Field(
        default=0.1,
        description="Share of the images that are not test, for validation, if the source has no "
        "validation split of its own.",
    )
    test_fraction: Fraction = Field(
        default=0.2,
        description="Share of all images, for test, if the source has no test split of its own.",
    )
    max_image_px: int = Field(
        default=MAX_IMAGE_PX,
        ge=1,
        description="Images of more pixels (width x height) are refused.",
    )
    white_level: float | None = Field(
        default=None,
        gt=0,
        description="The raw value that is white in images of more than 8 bits, as in 4095 for 12 "
        "bits in 16-bit files. Null: all that the file can hold (of floating-point values: 1), "
        "refused where no image uses the upper half of it.",
    )
    max_images: int = Field(
        default=2_000_000,
        ge=1,
        description="Sources of more images are refused; each takes about 1 kB of memory in load.",
    )

    @model_validator(mode="after")
    def _path_matches_source(self) -> DataParams:
        if self.source in SOURCES_WITH_PATH and self.path is None:
            raise ValueError(
                f"source {self.source} needs data.path, which is null (./null is a folder of that "
                "name)"
            )
        if self.source not in SOURCES_WITH_PATH and self.path is not None:
            raise ValueError(
                f"source {self.source} takes no data.path (got {self.path!r}); set it to null"
            )
        if self.source == "manifest" and not self.manifest.lower().endswith(TABLE_ENDINGS):
            raise ValueError(
                f"data.manifest must end in .csv, .tsv or .parquet, and is {self.manifest!r}; a "
                "spreadsheet saves its table as CSV"
            )
        return self


class PreprocessParams(_Section):
    """What every image is brought to."""

    size_px: int = Field(
        default=96,
        ge=32,
        le=1024,
        description="Width and height of the network's input, pixels.",
    )


def _known_trunk(name: str) -> str:
    if name not in FAMILIES:
        raise ValueError(f"got {_shown(name)}, allowed are {', '.join(FAMILIES)}")
    return name


class BackboneParams(_Section):
    """Which pretrained network is grafted onto, and where it is cut."""

    name: Annotated[str, AfterValidator(_known_trunk)] = Field(
        default=DEFAULT,
        description="The architecture, by its name in Keras Applications; docs/trunks.md tells "
        "of each.",
        json_schema_extra={"enum": list(FAMILIES)},
    )
    alpha: float = Field(
        default=1.0,
        description="Width multiplier; each architecture has some of these, most have only 1.0.",
        json_schema_extra={"enum": list(ALPHAS)},
    )
    weights: HomePath = Field(
        min_length=1,
        description="stanford-dogs, imagenet, random, a path to a weights file, or an https "
        "address of one.",
    )
    weights_sha256: Sha256 | None = Field(
        default=None,
        description="SHA-256 of the weights file; needed for a path or an address.",
    )
    cut: str | None = Field(
        default=None,
        min_length=1,
        description="The layer after which the trunk is cut; null: its usual last layer.",
    )

    @property
    def family(self) -> Family:
        """What is known of the architecture."""
        return FAMILIES[self.name]

    @property
    def cut_layer(self) -> str:
        """The layer after which the trunk is cut."""
        return self.cut or self.family.last_layer

    @model_validator(mode="after")
    def _has_this_width(self) -> BackboneParams:
        if self.alpha not in self.family.alphas:
            allowed = ", ".join(map(str, self.family.alphas))
            only = " only: it has no width multiplier" if len(self.family.alphas) == 1 else ""
            raise ValueError(
                f"backbone.alpha is {self.alpha}, and {self.name} takes {allowed}{only}"
            )
        return self

    @model_validator(mode="after")
    def _weights_are_pinned(self) -> BackboneParams:
        if self.weights == "stanford-dogs" and (self.name, self.alpha) != STANFORD_DOGS:
            name, alpha = STANFORD_DOGS
            raise ValueError(
                f"weights stanford-dogs exist for {name} of alpha {alpha} only, and backbone.name "
                f"is {self.name}, alpha is {self.alpha}"
            )
        if self.weights == "random" and self.weights_sha256 is not None:
            raise ValueError("weights random have no weights_sha256; set it to null")
        if names_a_user(self.weights):
            # Parameters stand in git, in MLflow and in messages: no place for a password.
            raise ValueError(
                "the address of the weights holds a name or a password; put them into ~/.netrc"
            )
        if self.weights.startswith("http://"):
            raise ValueError("weights are fetched by https only; the address starts with http://")
        if self.weights not in NAMED_WEIGHTS and self.weights_sha256 is None:
            raise ValueError(
                f"weights {self.weights!r} need backbone.weights_sha256 (run sha256sum on the "
                f"file), or one of {', '.join(NAMED_WEIGHTS)}"
            )
        return self


class HeadParams(_Section):
    """The new classifier: pooling, standardization, dense layers, dropout, softmax."""

    pooling: Literal["average", "max"] = Field(default="average", description="Global pooling.")
    standardize: bool = Field(
        default=True,
        description="Whether features are brought to mean 0 and variance 1 of the training split "
        "before the dense layers.",
    )
    units: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = Field(
        default=(256,),
        description="Units of each dense layer before the softmax; may be empty.",
    )
    dropout: float = Field(default=0.3, ge=0, lt=1, description="Dropout rate before the softmax.")


def _form_from_text(value: Any) -> Any:
    # "last_blocks: 2" as one string is what a command line can say (-S freeze.strategy=...).
    if isinstance(value, str) and ":" in value:
        name, _, argument = (part.strip() for part in value.partition(":"))
        return {name: int(argument) if argument.lstrip("-").isdigit() else argument}
    return value


class LastBlocks(_Section):
    """The last n blocks below the cut train."""

    last_blocks: int = Field(ge=1)


class FirstBlocks(_Section):
    """The first n blocks train."""

    first_blocks: int = Field(ge=1)


class FromLayer(_Section):
    """The named layer and all that follow train."""

    from_layer: str = Field(min_length=1)


class Seconds(_Section):
    """A budget in seconds of this machine."""

    seconds: int = Field(ge=1)


class FreezeParams(_Section):
    """Where the trunk is cut and which of its layers train; the head always does."""

    strategy: Annotated[
        Literal["auto", "all", "none"] | LastBlocks | FirstBlocks | FromLayer,
        BeforeValidator(_form_from_text),
    ] = Field(
        default="all",
        description="auto: cut and layers are chosen by measurement (backbone.cut is then one of "
        "the depths measured). all: the whole trunk is frozen. none: all of it trains. "
        "last_blocks: n, first_blocks: n, from_layer: name: these train and the rest is frozen.",
    )
    batch_norm: Literal["keep", "adapt"] = Field(
        default="keep",
        description="The trunk's BatchNormalization statistics. keep: those of the base weights. "
        "adapt: estimated anew on the training images, once, before anything trains.",
    )
    budget: Annotated[
        Annotated[float, Field(gt=0, le=10)] | Seconds | Literal["off"],
        BeforeValidator(_form_from_text),
    ] = Field(
        default=4.0,
        description="For strategy auto: what choosing may cost, as a share of training the whole "
        "network once, or in seconds. off: no limit; each candidate is trained to its end.",
    )
    max_images: int = Field(
        default=4000,
        ge=100,
        description="For strategy auto: training images that the depth profile looks at, at most.",
    )


class AugmentParams(_Section):
    """Random changes to training images; off by default, since some change what an image is."""

    flip: Literal["none", "horizontal", "vertical", "both"] = Field(
        default="none", description="Mirror images at random."
    )
    rotation_degrees: float = Field(
        default=0.0, ge=0, le=180, description="Turn by up to this angle either way."
    )
    translation: float = Field(
        default=0.0, ge=0, le=0.5, description="Shift by up to this share of the side."
    )
    zoom: float = Field(
        default=0.0, ge=0, le=0.5, description="Enlarge or shrink by up to this share."
    )
    contrast: float = Field(
        default=0.0, ge=0, lt=1, description="Change contrast by up to this share."
    )
    brightness: float = Field(
        default=0.0, ge=0, lt=1, description="Change brightness by up to this share of white."
    )
    views: int = Field(
        default=4,
        ge=1,
        le=64,
        description="Where features are cached: changed views of each image, which epochs take in "
        "turn.",
    )
    on_unsafe: Literal["refuse", "warn"] = Field(
        default="refuse",
        description="What to do when a change turns right answers into wrong ones.",
    )
    unsafe_drop: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Share of a class's right answers that may turn wrong under a change.",
    )

    @property
    def active(self) -> bool:
        """Whether any change is asked for."""
        amounts = (self.rotation_degrees, self.translation, self.zoom)
        return self.flip != "none" or any((*amounts, self.contrast, self.brightness))


class ExtractParams(_Section):
    """How the frozen part's outputs are kept."""

    dtype: Literal["float16", "float32"] = Field(
        default="float16",
        description="Of cached feature maps; pooled features are always float32.",
    )
    max_cache_gb: float = Field(
        default=8.0,
        gt=0,
        description="Feature maps that would take more disk than this are not cached; training "
        "then reads images.",
    )


class TrainParams(_Section):
    """The training loop."""

    epochs: int = Field(default=10, ge=1, le=10_000, description="Passes over the training split.")
    batch_size: int = Field(default=32, ge=1, le=65_536, description="Images per step.")
    learning_rate: float = Field(default=0.001, gt=0, le=10, description="Adam's learning rate.")
    schedule: Literal["constant", "cosine"] = Field(
        default="constant",
        description="cosine decays the rate to zero over all epochs.",
    )
    early_stopping_patience: int | None = Field(
        default=None,
        ge=1,
        description="Stop after this many epochs without a better validation loss; null: never. "
        "Which weights are kept is said in docs/finetuning.md.",
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="balanced weighs each class by the inverse of its frequency.",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Label smoothing while the head alone trains."
    )
    mixup: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Alpha of MixUp's Beta distribution; 0 mixes nothing.",
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Decay per step of an exponential moving average of the weights, which is then "
        "what is validated and kept; null: none.",
    )
    mixed_precision: Literal["none", "auto", "bfloat16"] = Field(
        default="none",
        description="Computing the unfrozen layers in 16 bits. auto: where this machine has "
        "instructions for it.",
    )


class TuneParams(_Section):
    """Fine-tuning the unfrozen layers, after the head has been trained on the frozen trunk."""

    epochs: int = Field(default=10, ge=1, le=10_000, description="Passes over the training split.")
    batch_size: int = Field(default=32, ge=1, le=65_536, description="Images per step.")
    learning_rate: float = Field(
        default=0.0005, gt=0, le=10, description="Adam's highest rate, that of the head."
    )
    warmup: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of the steps in which the rate rises from 0; a cosine takes it back.",
    )
    layer_decay: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Each block's rate is that of the block after it times this.",
    )
    label_smoothing: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Label smoothing while layers of the trunk train. The head knows few images by "
        "heart before they begin, and without it would have nothing to tell them.",
    )
    gradual_unfreezing: bool = Field(
        default=False,
        description="Whether blocks begin to train one after the other, the last one first, over "
        "the first half of the epochs.",
    )


class EvaluateParams(_Section):
    """What is reported of the test split."""

    calibration_bins: int = Field(
        default=15, ge=2, le=100, description="Bins of the expected calibration error."
    )
    worst_mistakes: int = Field(
        default=24,
        ge=0,
        le=200,
        description="Images in the gallery of the worst mistakes.",
    )


class Agreements(_Section):
    """By format: the least share of test images that must get the same label as the original."""

    litert_float32: Share = Field(default=0.999, description="Least agreement of litert_float32.")
    litert_float16: Share = Field(default=0.99, description="Least agreement of litert_float16.")
    litert_int8: Share = Field(default=0.97, description="Least agreement of litert_int8.")
    saved_model: Share = Field(default=0.999, description="Least agreement of saved_model.")
    onnx: Share = Field(default=0.999, description="Least agreement of onnx.")


class ClassDrops(_Section):
    """By format: by how much a class's recall may fall below the original's."""

    litert_float32: Share = Field(default=0.0, description="Largest drop of litert_float32.")
    litert_float16: Share = Field(default=0.02, description="Largest drop of litert_float16.")
    litert_int8: Share = Field(default=0.1, description="Largest drop of litert_int8.")
    saved_model: Share = Field(default=0.0, description="Largest drop of saved_model.")
    onnx: Share = Field(default=0.0, description="Largest drop of onnx.")


class ExportParams(_Section):
    """Which further files are made of the trained model, and how near to it they must stay."""

    formats: tuple[ExportFormat, ...] = Field(
        default=(), description="What is exported; with none the step does nothing."
    )
    calibration_images: int = Field(
        default=200,
        ge=1,
        le=100_000,
        description="For litert_int8: training images from which the ranges of all values are "
        "taken, at most.",
    )
    min_agreement: Agreements = Field(
        default=Agreements(),
        description="Share of the test images that must get the same label as from the original. "
        "One may always differ: of few it would be a large share.",
    )
    max_class_drop: ClassDrops = Field(
        default=ClassDrops(),
        description="By how much the recall of a class may fall. One image may always be lost.",
    )

    @model_validator(mode="after")
    def _each_format_once(self) -> ExportParams:
        if len(set(self.formats)) < len(self.formats):
            raise ValueError(f"export.formats names one twice: {', '.join(self.formats)}")
        return self


class RegisterParams(_Section):
    """Where the model goes."""

    model_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")] = (
        Field(default="graftline", description="The registered model's name in MLflow.")
    )


class PromoteParams(_Section):
    """What a newly registered model has to pass to become the champion; see docs/champions.md.

    What is null is not set, and what is not set cannot be passed: then nothing is promoted.
    """

    min_accuracy: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The floor: accuracy on the test split that every champion has, the first one "
        "too, both of all images and with each class counting the same. Null: nothing is promoted.",
    )
    margin: float | None = Field(
        default=None,
        gt=-1,
        lt=1,
        description="How far above the champion's accuracy the challenger's must surely be. Below "
        "0: it may be worse by less than this. It holds against the best champion so far, too. "
        "Null: no champion is replaced.",
    )
    same_data_margin: float = Field(
        default=0.0,
        gt=-1,
        lt=1,
        description="How far above the champion's accuracy the challenger's must be, as measured, "
        "where both were trained on the same data. 0: not worse.",
    )
    significance: float | None = Field(
        default=None,
        gt=0,
        lt=0.5,
        description="Level of the exact tests (McNemar's, one-sided) and of the interval's lower "
        "end. Null: no champion is replaced.",
    )
    max_recall_drop: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="By how much the recall of a class may fall; what surely falls by more, by an "
        "exact test at the significance for all classes together, is refused. 1 guards none. Null: "
        "no champion is replaced.",
    )
    min_class_images: int = Field(
        default=20,
        ge=1,
        description="Classes with fewer test images are not guarded: too few to be sure of a fall.",
    )


def _plain_address(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the address must begin with http:// or https:// and name a host")
    if names_a_user(address) or parts.query or parts.fragment:
        # The value is not repeated, for it may be a secret.
        raise ValueError(
            "the address holds what may be a secret (a user, a password, a query), and parameters "
            "are shown in Prefect and MLflow; put it into the environment as GRAFTLINE_WEBHOOK"
        )
    return address


def _command_line(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"got {_shown(command)}, which is no command line: {error}") from error
    if not words:
        raise ValueError("the command is empty; null turns it off")
    return command


class NotifyParams(_Section):
    """Who is told of each verdict; nobody by default. See docs/events.md."""

    command: Annotated[str, AfterValidator(_command_line)] | None = Field(
        default=None,
        description="A command that gets the verdict as JSON on its standard input. No shell "
        "reads it.",
    )
    webhook: Annotated[str, AfterValidator(_plain_address)] | None = Field(
        default=None,
        description="A web address that the verdict is posted to as JSON. One that is a secret "
        "belongs into the environment variable GRAFTLINE_WEBHOOK, which comes first.",
    )
    timeout_s: float = Field(
        default=10.0, gt=0, le=600, description="How long each try may take, seconds."
    )


class DriftParams(_Section):
    """When new images count as others than those of the training: read by flows.predict alone."""

    significance: Fraction = Field(
        default=0.01,
        description="A feature differs if its p-value, adjusted for the number of features, is "
        "below this.",
    )
    min_distance: float = Field(
        default=0.15,
        ge=0,
        lt=1,
        description="It has drifted if its distance from the training images (Kolmogorov-Smirnov, "
        "0 to 1) is above this too; where the validation split differs, above its distance plus "
        "this.",
    )
    threshold: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of drifted features above which the flow raises graftline.drift.",
    )


class Params(_Section):
    """All of ``params.yaml``."""

    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of every random choice.")
    data: DataParams
    preprocess: PreprocessParams = PreprocessParams()
    backbone: BackboneParams
    head: HeadParams = HeadParams()
    freeze: FreezeParams = FreezeParams()
    augment: AugmentParams = AugmentParams()
    extract: ExtractParams = ExtractParams()
    train: TrainParams = TrainParams()
    tune: TuneParams = TuneParams()
    evaluate: EvaluateParams = EvaluateParams()
    export: ExportParams = ExportParams()
    register_: RegisterParams = Field(default=RegisterParams(), alias="register")
    promote: PromoteParams = PromoteParams()
    notify: NotifyParams = NotifyParams()
    drift: DriftParams = DriftParams()

    @model_validator(mode="after")
    def _trunk_takes_this_size(self) -> Params:
        size_px, family = self.preprocess.size_px, self.backbone.family
        if size_px < family.smallest_px:
            raise ValueError(
                f"preprocess.size_px is {size_px}, but {family.name} takes {family.smallest_px} or "
                "more"
            )
        sizes_px = family.imagenet_sizes_px
        # For another size Keras would silently serve the weights made for 224 px.
        if self.backbone.weights == "imagenet" and sizes_px and size_px not in sizes_px:
            raise ValueError(
                f"preprocess.size_px is {size_px}, but Keras has ImageNet weights of {family.name} "
                f"for {', '.join(map(str, sizes_px))} only"
            )
        return self

    def flat(self) -> dict[str, str | int | float | bool | None]:
        """Every parameter by its dotted key, as scalars or JSON text."""
        return flattened(self.model_dump(mode="json", by_alias=True))


def read_params(path: Path) -> Params:
    """Reads and checks a parameter file.

    Raises:
        ParamsError: If the file is absent, is no YAML, or holds anything that is not allowed;
            the message names every key at fault.
    """
    return params_from_record(_read_yaml(path), str(path))


def params_from_record(record: Any, where: str) -> Params:
    """Checks a parsed parameter file; ``where`` names it in errors."""
    if not isinstance(record, dict):
        raise ParamsError(
            f"the file holds {type(record).__name__}, not keys and values",
            where=where,
            allowed=f"the sections {', '.join(_section_names())}",
        )
    try:
        text = json.dumps(record)
    except (TypeError, ValueError, RecursionError) as error:
        # Dates, bytes, sets, lists that hold themselves: YAML knows more than parameters are.
        raise ParamsError(
            f"a value is no plain number or text: {error}",
            where=where,
            allowed="numbers, texts (dates in quotes), true, false, null, lists, keys and values",
        ) from error
    try:
        return Params.model_validate_json(text)
    except ValidationError as error:
        raise _explained(error, where) from error


def with_overrides(record: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Applies ``key=value`` texts, with dotted keys, to a copy of a record.

    The value of a parameter that is text is the text as it stands; where the parameter may also be
    null, the word ``null`` is. All other values are read as YAML.

    Raises:
        ParamsError: If an override has no ``=`` or its value is no YAML.
    """
    changed = copy.deepcopy(record)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ParamsError(
                f"--set {override} is no key=value",
                allowed="a dotted key and a value, as in train.learning_rate=0.0005",
            )
        *parents, last = key.split(".")
        section = changed
        for parent in parents:
            below = section.get(parent)
            if not isinstance(below, dict):
                below = section[parent] = {}
            section = below
        section[last] = _value(key, text, f"--set {override}")
    return changed


def _value(key: str, text: str, where: str) -> Any:
    options = _options(_annotation(key))
    if str not in options:
        return _parse_yaml(text, where)
    if not text.isascii() and text != text.encode("utf-8", "replace").decode("utf-8"):
        raise ParamsError(
            "the value holds bytes that are no text in UTF-8, and the parameter file is text",
            where=where,
            fix="rename the file or folder, or make a link to it that has another name",
        )
    return None if NoneType in options and text == "null" else text


def _annotation(key: str) -> Any:
    """The type of a parameter, by its dotted key; None if there is no such parameter."""
    found: Any = Params
    for name in key.split("."):
        fields = getattr(found, "model_fields", {})
        found = next(
            (field.annotation for own, field in fields.items() if name == (field.alias or own)),
            None,
        )
    return found


def _options(annotation: Any) -> set[Any]:
    """The types that a value may have, without what limits them."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return set().union(*map(_options, get_args(annotation)))
    return {annotation if isinstance(annotation, type) else None}


def read_record(path: Path) -> dict[str, Any]:
    """A parameter file as plain keys and values, unchecked."""
    record = _read_yaml(path)
    return record if isinstance(record, dict) else {}


def read_text(path: Path) -> str:
    """A parameter file's text.

    Raises:
        ParamsError: If it is absent, cannot be read, or is larger than parameters ever are.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise ParamsError(
                "the parameter file is too large",
                where=str(path),
                allowed=f"at most {_MAX_FILE_BYTES} bytes; all parameters take about 4000",
            )
        return data.decode("utf-8")
    except FileNotFoundError as error:
        raise ParamsError(
            "there is no parameter file here",
            where=str(path),
            fix="run in the checkout's root, or name an existing file with --params",
        ) from error
    except (OSError, ValueError) as error:
        raise ParamsError(f"the parameter file cannot be read: {error}", where=str(path)) from error


def json_schema() -> dict[str, Any]:
    """The JSON schema of ``params.yaml``, for editors."""
    schema = Params.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _read_yaml(path: Path) -> Any:
    return _parse_yaml(read_text(path), str(path))


def _parse_yaml(text: str, where: str) -> Any:
    try:
        _refuse_unfolding(text, where)
        # YAML 1.2, as DVC reads it: 1e-3 is a number, and a key that stands twice is an error.
        return YAML(typ="safe", pure=True).load(text)
    except ParamsError:
        raise
    except YAMLError as error:
        raise ParamsError(f"this is no YAML: {error}", where=where) from error
    except Exception as error:  # What looks like a date or a number and is none fails anyhow.
        raise ParamsError(
            f"a value cannot be read: {type(error).__name__}: {error}",
            where=where,
            fix="put it in quotes if it is meant as text",
        ) from error


def _refuse_unfolding(text: str, where: str) -> None:
    """A short text may stand for more values, or a deeper nesting, than anything can work through.

    A few aliases of aliases unfold to billions of values, and the scanner's time grows with the
    square of the depth.
    """
    if "*" not in text and sum(map(text.count, "[{?-")) <= _PLAIN_SIGNS:
        return
    nodes, sizes, opened = 0, dict[str, int](), list[tuple[str | None, int]]()
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before
        elif isinstance(event, AliasEvent):
            nodes += sizes.get(str(event.anchor), 1)
        elif isinstance(event, NodeEvent):
            if isinstance(event, CollectionStartEvent):
                opened.append((event.anchor, nodes))
            nodes += 1
        if nodes > _MAX_NODES or len(opened) > _MAX_DEPTH:
            raise ParamsError(
                "the aliases (*name) unfold to more values than parameters are"
                if nodes > _MAX_NODES
                else "the values are nested deeper than parameters are",
                where=where,
                allowed=f"at most {_MAX_NODES} values, {_MAX_DEPTH} levels deep",
                fix="write the values out",
            )


def _section_names() -> list[str]:
    return [field.alias or name for name, field in Params.model_fields.items()]


def flattened(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys and values by dotted key; lists become JSON text."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(value) if isinstance(value, list) else value
    return flat


def _explained(error: ValidationError, where: str) -> ParamsError:
    # By key: pydantic tells of one wrong strategy once for each form that it might have been.
    got: dict[str, str] = {}
    allowed: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        key, got_here, allowed_here = _told(problem)
        got.setdefault(key, f"{key}: {got_here}" if key else got_here)
        if allowed_here:
            allowed.setdefault(key, f"{key}: {allowed_here}")
    return ParamsError(
        "\n  ".join(["the parameters are not valid:", *map(without_secrets, got.values())]),
        where=without_secrets(where),
        allowed="\n".join(allowed.values()) or None,
        fix="mend the key; docs/parameters.md and params.schema.json list what each one allows",
    )


def _told(problem: ErrorDetails) -> tuple[str, str, str | None]:
    """The key at fault, what arrived there, and what is allowed."""
    location, value = problem["loc"], problem["input"]
    key = ".".join(str(part) for part in location)
    if (forms := _FORMS.get(location[:2])) is not None:
        return ".".join(map(str, location[:2])), f"got {_shown(value)}", forms
    if problem["type"] == "extra_forbidden":
        return (
            key,
            f"unknown key, with the value {_shown(value)}",
            f"one of {', '.join(_siblings(location))}",
        )
    if problem["type"] == "missing":
        return key, "this key is missing", "see docs/parameters.md"
    if problem["type"] == "value_error":
        return key, problem["msg"].removeprefix("Value error, "), None
    return key, f"got {_shown(value)}", _ALLOWED.get(problem["type"]) or _requirement(problem)


_FORMS: dict[tuple[int | str, ...], str] = {
    ("freeze", "strategy"): STRATEGY_FORMS,
    ("freeze", "budget"): BUDGET_FORMS,
}
_ALLOWED = {
    "model_type": "a section: keys and values, indented below it",
    "tuple_type": "a list, as in [256] or []",
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
}
_KINDS = {int: "a whole number", float: "a number", str: "text"}
_SHOWN_CHARACTERS = 80


def _requirement(problem: ErrorDetails) -> str:
    message = re.sub("^Input should (be )?", "", problem["msg"])
    return re.sub("^String should match", "text that matches the", message)


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}…"
    kind = _KINDS.get(type(value))
    return f"{text} ({kind})" if kind else text


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    section: Any = Params
    for key in location[:-1]:
        fields = getattr(section, "model_fields", {})
        named = {field.alias or name: field.annotation for name, field in fields.items()}
        section = named.get(key)
    if section is Params:
        return _section_names()
    return list(getattr(section, "model_fields", {}))
