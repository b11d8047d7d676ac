"""Keras models as files: the same bytes for the same model, safe to load, and their digests."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graftline.core.checksums import verify
from graftline.core.errors import MissingOutputError, unusable_output, visible
from graftline.network.h5_safety import refuse_hostile

_SPARE_BYTES = 16 << 20
_SUSPECT_RATIO = 16
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_SHOWN, _SHOWN_CHARACTERS = 5, 80
_MADE_OF: dict[str, tuple[str, ...]] = {
    "None": ("__ellipsis__", "__keras_tensor__", "__slice__"),
    "keras": ("DTypePolicy",),
    "keras.initializers": ("GlorotUniform", "Ones", "VarianceScaling", "Zeros"),
    "keras.layers": (
        *("InputLayer", "Rescaling", "Resizing", "Reshape", "ZeroPadding2D"),
        *("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense"),
        *("Activation", "ReLU", "Softmax", "BatchNormalization", "Dropout"),
        *("Add", "Multiply", "Concatenate"),
        *("AveragePooling2D", "MaxPooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D"),
    ),
    "keras.src.models.functional": ("Functional",),
    "keras.src.ops.core": ("Cast",),
    "keras.src.ops.numpy": ("Add", "Concatenate", "GetItem", "Multiply"),
}
"""By module, what a configuration may name: what backbones, the head and what is between hold."""
_CLASSES = {(module, name) for module, names in _MADE_OF.items() for name in names}


def save_model(model: Any, path: Path) -> None:
    """Writes a ``.keras`` file whose bytes depend on the model alone.

    Keras stamps the time into the archive; without it DVC sees the same output for the same model.
    """
    written = path.with_name("as-written.keras")
    model.save(written)
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(path, "w") as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == _METADATA:
                content = _undated(content)
            if name == _CONFIG:
                content = _numbered(content)
            target.writestr(zipfile.ZipInfo(name, _ZIP_EPOCH), content)
    written.unlink()


def _numbered(config: bytes) -> bytes:
    """With the places in memory that tell shared objects apart replaced by 1, 2, 3 and so on."""
    numbers: dict[bytes, int] = {}

    def number(found: re.Match[bytes]) -> bytes:
        return found[1] + str(numbers.setdefault(found[2], len(numbers) + 1)).encode()

    return re.sub(rb'("shared_object_id": )(\d+)', number, config)


def load_model(path: Path) -> Any:
    """Reads a ``.keras`` file in safe mode: nothing in it is executed or unpickled.

    Raises:
        DamagedFileError: If its folder lists another checksum for it.
        MissingOutputError: If the file is absent, no Keras model, or one that holds anything but
            the layers that Graftline's models are made of, and their weights.
    """
    import keras

    verify(path)
    try:
        _refuse_hostile(path)
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except MissingOutputError:
        raise
    # Keras answers broken files with almost any exception.
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        problem = f"is absent or no Keras model that can be trusted: {said}"
        raise unusable_output(path, problem) from error


def _refuse_hostile(path: Path) -> None:
    """Holds an archive to what :func:`save_model` writes, before Keras makes anything of it.

    Keras's safe mode refuses code that is in the file, but not every call of a function that is in
    Keras: a Lambda layer of ``keras.datasets.imdb.load_data`` downloads while the model is loaded.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        size_bytes = path.stat().st_size
        if unpacked > _SPARE_BYTES + _SUSPECT_RATIO * size_bytes:
            raise unusable_output(
                path, f"unpacks from {size_bytes} to {unpacked} bytes, as decompression bombs do"
            )
        names = sorted(member.filename for member in members)
        if names != sorted((_CONFIG, _METADATA, _WEIGHTS)):
            raise unusable_output(path, f"holds {_listed(names)}, and not what a model holds")
        config = json.loads(archive.read(_CONFIG))
        unknown = {f"{module}.{name}" for module, name in _classes(config) - _CLASSES}
        if unknown:
            raise unusable_output(
                path, f"holds {_listed(sorted(unknown))}, which no model here holds"
            )
        refuse_hostile(path, archive.read(_WEIGHTS))


def _classes(config: Any) -> set[tuple[str, str]]:
    """The module and the name of everything that Keras would make of a configuration."""
    found: set[tuple[str, str]] = set()
    waiting = [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "class_name" in one:
                found.add((str(one.get("module")), str(one["class_name"])))
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return found


def _listed(names: Sequence[str]) -> str:
    shown = [visible(repr(name[:_SHOWN_CHARACTERS])) for name in names[:_SHOWN]]
    return ", ".join([*shown, *["..."] * (len(names) > _SHOWN)])


def variables_digest(variables: Iterable[Any]) -> str:
    """SHA-256 over variables: path, type, shape and values of each, sorted by path.

    Seeds of random layers are left out, since they are no weights.
    """
    digest = hashlib.sha256()
    for variable in sorted(variables, key=lambda variable: variable.path):
        if "seed_generator" in variable.path:
            continue
        values = variable.numpy()
        digest.update(f"{variable.path}:{values.dtype}:{values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def convert_to_litert(
    function: Any, *, dtype: str = "uint8", configure: Callable[[Any], None] | None = None
) -> bytes:
    """Converts ``function`` to a LiteRT model that takes images of any size and channels.

    Args:
        function: From a tensor (n, height, width, channels) to one float32 tensor, or to
            several, which the file gives in their order.
        dtype: The tensor's.
        configure: Sets what the converter, TensorFlow's, is to do beyond converting.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    images = tf.TensorSpec((None, None, None, None), tf.as_dtype(dtype), name="images")
    concrete = tf.function(function, input_signature=[images]).get_concrete_function()
    # The converter asks for the owner of variables, of which none are left.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [convert_variables_to_constants_v2(concrete)]
    )
    if configure is not None:
        configure(converter)
    converted: bytes = converter.convert()
    return converted


def _undated(metadata: bytes) -> bytes:
    record = json.loads(metadata)
    record.pop("date_saved", None)
    return json.dumps(record, sort_keys=True).encode()
