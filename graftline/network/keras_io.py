"""Keras models as files: the same bytes for the same model, safe to load, and their digests."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from graftline.core.checksums import verify
from graftline.core.errors import MissingOutputError

_SPARE_BYTES = 16 << 20
_SUSPECT_RATIO = 16
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def save_model(model: Any, path: Path) -> None:
    """Writes a ``.keras`` file whose bytes depend on the model alone.

    Keras stamps the time into the archive; without it DVC sees the same output for the same model.
    """
    written = path.with_name("as-written.keras")
    model.save(written)
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(path, "w") as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == "metadata.json":
                content = _undated(content)
            if name == "config.json":
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
        MissingOutputError: If the file is absent or no Keras model.
    """
    import keras

    verify(path)
    try:
        _refuse_bomb(path)
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except MissingOutputError:
        raise
    # Keras answers broken files with almost any exception, and refuses code (a Lambda layer, a
    # class of a module that is not its own) with ValueError or TypeError.
    except Exception as error:
        raise MissingOutputError(
            f"{path} is absent or no Keras model that can be trusted: {_first_line(error)}",
            where=str(path),
            fix="run dvc repro, which writes it anew",
        ) from error


def _refuse_bomb(path: Path) -> None:
    """Only weights are large in a model, and they do not shrink."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    size_bytes = path.stat().st_size
    if unpacked > _SPARE_BYTES + _SUSPECT_RATIO * size_bytes:
        raise MissingOutputError(
            f"{path} unpacks from {size_bytes} to {unpacked} bytes, as decompression bombs do",
            where=str(path),
            fix="run dvc repro, which writes it anew",
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


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
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

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
