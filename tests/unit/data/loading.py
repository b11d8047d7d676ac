"""Small sources, written as their kinds are in the wild."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from graftline.core.errors import GraftlineError
from graftline.core.params import Params, params_from_record
from graftline.core.workspace import Workspace
from graftline.steps.load import load


def params(source: str, path: Path | str | None = None, **data: Any) -> Params:
    """Parameters for one source; keys that are not of ``data`` go by ``seed`` and ``size_px``."""
    record: dict[str, Any] = {"backbone": {"weights": "random"}}
    if "seed" in data:
        record["seed"] = data.pop("seed")
    if "size_px" in data:
        record["preprocess"] = {"size_px": data.pop("size_px")}
    record["data"] = {"source": source, "path": None if path is None else str(path), **data}
    return params_from_record(record, "test")


def pixels(number: int, shape: tuple[int, ...] = (6, 8)) -> NDArray[np.uint8]:
    """An image like no other: its pixels follow from ``number``."""
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


def encoded(image: NDArray[Any] | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    whole = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    whole.save(file, kind, **options)
    return file.getvalue()


def write_folder(root: Path, counts: dict[str, int], first: int = 0) -> None:
    """A folder per class; every image is another one."""
    number = first
    for label, count in counts.items():
        (root / label).mkdir(parents=True)
        for index in range(count):
            (root / label / f"{index}.png").write_bytes(encoded(pixels(number)))
            number += 1


def idx_images(images: NDArray[np.uint8]) -> bytes:
    return struct.pack(">4I", 0x803, *images.shape) + images.tobytes()


def idx_labels(labels: NDArray[np.uint8]) -> bytes:
    return struct.pack(">2I", 0x801, len(labels)) + labels.tobytes()


def write_idx(
    root: Path, prefix: str, count: int, first: int = 0, *, zipped: bool = False, mark: str = "-"
) -> None:
    """Images and labels 0, 1, 0, 1, ..."""
    root.mkdir(parents=True, exist_ok=True)
    images = np.stack([pixels(first + number) for number in range(count)])
    labels = (np.arange(count) % 2).astype(np.uint8)
    for name, data in (
        (f"{prefix}-images{mark}idx3-ubyte", idx_images(images)),
        (f"{prefix}-labels{mark}idx1-ubyte", idx_labels(labels)),
    ):
        if zipped:
            (root / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (root / name).write_bytes(data)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(workspace: Workspace, wrong: Params) -> GraftlineError:
    """The error of a load that must fail and must leave what an earlier one wrote."""
    sound = workspace.root / "sound-source"
    write_folder(sound, {"a": 4, "b": 4})
    load(workspace, params("folder", sound))
    before = contents(workspace.root / "data")
    with pytest.raises(GraftlineError) as caught:
        load(workspace, wrong)
    assert caught.value.exit_code == 2
    assert contents(workspace.root / "data") == before
    assert [path.name for path in (workspace.root / "data").iterdir()] == ["loaded"]
    return caught.value
