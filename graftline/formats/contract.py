"""The contract inside an exported file: its input, its output, and its model.

Each format has a place for it, where it is read without Graftline:

- LiteRT: ``contract.json`` and ``labels.txt`` in a zip archive behind the model's own bytes, as
  TensorFlow Lite's metadata keep a model's associated files;
- ONNX: the model's ``metadata_props``, ``graftline.contract`` and ``graftline.labels``;
- SavedModel: ``contract.json`` and ``labels.txt`` among its assets.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from graftline.core.checksums import verify_all
from graftline.core.errors import MissingOutputError
from graftline.core.installing import require
from graftline.core.records import ExportFormat, Record, WhiteLevels

CONTRACT_FILE = "contract.json"
LABELS_FILE = "labels.txt"
CONTRACT_KEY = "graftline.contract"
LABELS_KEY = "graftline.labels"
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


class InputContract(Record):
    """What images have to be."""

    name: str
    dtype: Literal["uint8"]
    shape: tuple[int | None, ...]
    """Images, height, width, channels; null where any number will do."""
    channels: tuple[int, ...]
    """How many an image may have: grey, or red, green and blue in this order."""
    value_range: tuple[int, int]
    white: WhiteLevels = WhiteLevels()
    """How images of more than 8 bits became 8 where the model was trained: the raw value that is
    white (level; null: the largest that the image's kind can hold), and the kinds that occurred."""
    largest_px: int | None
    """Larger images must be shrunk to it first, height and width each for itself, by bilinear
    interpolation with a filter against aliasing; null where the model does so itself."""


class PreparationContract(Record):
    """What the model itself does to images before its first convolution; nobody else has to."""

    resized_px: int
    """Height and width that images are brought to, bilinearly."""
    scaled_to: str
    scale: float | tuple[float, ...]
    """Factor of a value from 0 to 255, one or one per channel."""
    offset: float | tuple[float, ...]
    """Added after the factor."""
    bgr: bool
    """Whether the channels are turned round first."""


class OutputContract(Record):
    """What comes out: one number per class."""

    name: str
    dtype: Literal["float32", "uint8"]
    scale: float
    zero_point: int
    """A probability is ``scale * (value - zero_point)``."""


class Contract(Record):
    """Everything that one needs to use a file."""

    format: ExportFormat
    graftline: str
    """The version of Graftline that wrote the file."""
    weight_digest: str
    """Of the trained model, as in ``trained.json``."""
    classes: tuple[str, ...]
    """In the order of the output's numbers."""
    input: InputContract
    preparation: PreparationContract
    output: OutputContract
    signature: str | None
    """Of a SavedModel: the signature to call."""

    @property
    def labels(self) -> str:
        """The classes, one per line, as common tools read them."""
        return "".join(f"{' '.join(name.splitlines())}\n" for name in self.classes)

    @property
    def json_text(self) -> str:
        """The contract as JSON."""
        return self.model_dump_json(indent=2) + "\n"


def append_contract(path: Path, contract: Contract) -> None:
    """Appends the contract and the labels to a LiteRT file, which runs as before."""
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in ((CONTRACT_FILE, contract.json_text), (LABELS_FILE, contract.labels)):
            archive.writestr(zipfile.ZipInfo(name, _ZIP_EPOCH), text)


def read_contract(path: Path) -> Contract:
    """Reads what an exported file, or folder, says of itself.

    Args:
        path: A ``.tflite`` or ``.onnx`` file, or a SavedModel's folder.

    Raises:
        DamagedFileError: If its folder lists other checksums for it.
        MissingOutputError: If it is absent, or carries no contract that this version knows.
    """
    verify_all(path)
    try:
        return Contract.model_validate_json(_text(path))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        why = "its contract is another" if isinstance(error, ValidationError) else str(error)
        raise MissingOutputError(
            f"{path} is no model that this version of Graftline exported: {why}",
            where=str(path),
            allowed="a .tflite or .onnx file, or a SavedModel's folder, from models/exports",
            fix="run graftline export, which writes it anew",
        ) from error


def _text(path: Path) -> str:
    if path.is_dir():
        return (path / "assets" / CONTRACT_FILE).read_text(encoding="utf-8")
    if path.suffix == ".onnx":
        require("onnx", "a file of the format onnx", str(path))
        import onnx

        try:
            model = onnx.load(path, load_external_data=False)
        except OSError:
            raise
        except Exception as error:  # protobuf has exceptions of its own
            raise ValueError(f"it is no ONNX model: {error}") from error
        properties: dict[str, str] = {one.key: one.value for one in model.metadata_props}
        return properties[CONTRACT_KEY]
    with zipfile.ZipFile(path) as archive:
        return archive.read(CONTRACT_FILE).decode()
