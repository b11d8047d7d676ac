"""Base weights: only the file that was meant gets into the network."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from graftline.core.backbones import FAMILIES
from graftline.core.errors import DownloadError, GraftlineError, ParamsError, WeightsError
from graftline.core.files import sha256_file
from graftline.core.params import BackboneParams
from graftline.core.workspace import Workspace
from graftline.network import pretrained as weights_module
from graftline.network.cutting import build_base, cut_after, layer_records
from graftline.network.keras_io import variables_digest
from graftline.network.pretrained import (
    RECORD,
    BaseWeights,
    load_into,
    present_weights,
    resolve_weights,
)

SIZE_PX, ALPHA = 32, 0.35


@pytest.fixture(scope="module")
def base() -> Any:
    return build_base(SIZE_PX, ALPHA, seed=1)


@pytest.fixture(scope="module")
def weights_file(base: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    base.save_weights(path)
    return path


def backbone(path: Path | str, sha256: str | None, alpha: float = ALPHA) -> BackboneParams:
    return BackboneParams(weights=str(path), weights_sha256=sha256, alpha=alpha)


def refused(file: Path, alpha: float = ALPHA) -> GraftlineError:
    fresh = build_base(SIZE_PX, alpha, seed=2)
    with pytest.raises(WeightsError) as caught:
        load_into(fresh, BaseWeights(str(file), file, sha256_file(file)))
    assert caught.value.exit_code == 2
    assert caught.value.where == str(file)
    return caught.value


def test_a_local_file_is_loaded_when_its_hash_is_right(
    tmp_path: Path, base: Any, weights_file: Path
) -> None:
    pinned = backbone(weights_file, sha256_file(weights_file))
    fresh = build_base(SIZE_PX, ALPHA, seed=2)
    assert variables_digest(fresh.variables) != variables_digest(base.variables)
    load_into(fresh, resolve_weights(Workspace(tmp_path), pinned, SIZE_PX))
    for ours, theirs in zip(fresh.get_weights(), base.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_name_of_the_file_does_not_matter(
    tmp_path: Path, base: Any, weights_file: Path
) -> None:
    renamed = tmp_path / "abc.h5"
    renamed.write_bytes(weights_file.read_bytes())
    fresh = build_base(SIZE_PX, ALPHA, seed=2)
    load_into(fresh, BaseWeights("abc", renamed, None))
    for ours, theirs in zip(fresh.get_weights(), base.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_wrong_hash_is_refused_and_both_are_named(tmp_path: Path, weights_file: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        resolve_weights(Workspace(tmp_path), backbone(weights_file, "0" * 64), SIZE_PX)
    assert sha256_file(weights_file) in str(caught.value)
    assert "0" * 64 in str(caught.value)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not there"):
        resolve_weights(Workspace(tmp_path), backbone("nowhere.h5", "0" * 64), SIZE_PX)


def test_another_width_is_refused(weights_file: Path) -> None:
    assert "MobileNetV2" in str(refused(weights_file, alpha=0.5))


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    import keras

    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    path = tmp_path / "other.weights.h5"
    other.save_weights(path)
    assert "alpha" in str(refused(path))


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.weights.h5"
    path.write_bytes(content)
    refused(path)


def test_a_truncated_file_is_refused(tmp_path: Path, weights_file: Path) -> None:
    path = tmp_path / "short.weights.h5"
    path.write_bytes(weights_file.read_bytes()[:4000])
    refused(path)


def test_a_file_that_links_elsewhere_is_refused(tmp_path: Path, weights_file: Path) -> None:
    path = tmp_path / "linked.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers"] = h5py.ExternalLink(str(weights_file), "/layers")
    assert "elsewhere" in str(refused(path))


def test_stanford_dogs_are_the_pinned_file(tmp_path: Path) -> None:
    found = resolve_weights(
        Workspace(tmp_path), BackboneParams(weights="stanford-dogs"), size_px=96
    )
    assert found.path is not None
    assert found.sha256 == sha256_file(found.path)


def test_stanford_dogs_fill_every_layer(tmp_path: Path) -> None:
    found = resolve_weights(
        Workspace(tmp_path), BackboneParams(weights="stanford-dogs"), size_px=96
    )
    fresh = build_base(SIZE_PX, 1.0, seed=2)
    load_into(fresh, found)
    with h5py.File(found.path, "r") as file:
        stored = np.asarray(file["model_weights/mobilenetv2_1.00_160/Conv_1/kernel"])
    np.testing.assert_array_equal(fresh.get_layer("Conv_1").get_weights()[0], stored)


@pytest.fixture
def server(weights_file: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Quiet, directory=str(weights_file.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


@pytest.fixture
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "keras"
    monkeypatch.setenv("KERAS_HOME", str(home))
    return home


def test_imagenet_weights_are_recorded_at_their_first_download(
    tmp_path: Path,
    server: str,
    weights_file: Path,
    keras_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{ALPHA}_96_no_top.h5"
    (weights_file.parent / "mobilenet_v2").mkdir()
    (weights_file.parent / "mobilenet_v2" / name).write_bytes(weights_file.read_bytes())
    monkeypatch.setattr(weights_module, "_KERAS_ADDRESS", server)
    workspace, wanted = Workspace(tmp_path), BackboneParams(weights="imagenet", alpha=ALPHA)
    found = resolve_weights(workspace, wanted, 96)
    digest = hashlib.sha256(weights_file.read_bytes()).hexdigest()
    assert found.sha256 == digest
    noted = (tmp_path / RECORD).read_text()
    (tmp_path / RECORD).unlink()
    assert present_weights(workspace, wanted, 96) == found
    assert not (tmp_path / RECORD).exists(), "a look notes nothing"
    (tmp_path / RECORD).write_text(noted)
    assert json.loads((tmp_path / RECORD).read_text()) == {name: digest}
    (keras_home / "models" / name).write_bytes(b"another file")
    with pytest.raises(WeightsError, match=digest):
        resolve_weights(workspace, wanted, 96)


@pytest.mark.parametrize("cached", [False, True])
def test_imagenet_weights_must_have_the_md5_that_keras_publishes(
    tmp_path: Path,
    server: str,
    weights_file: Path,
    keras_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    cached: bool,
) -> None:
    family = FAMILIES["MobileNetV3Small"]
    name, published = family.imagenet_file(0.75, 96), family.md5[0.75]
    place = keras_home / "models" if cached else weights_file.parent / family.folder
    place.mkdir(parents=True)
    (place / name).write_bytes(b"another file")
    monkeypatch.setattr(weights_module, "_KERAS_ADDRESS", server)
    wanted = BackboneParams(weights="imagenet", name=family.name, alpha=0.75)
    with pytest.raises(GraftlineError) as caught:
        resolve_weights(Workspace(tmp_path), wanted, 96)
    assert isinstance(caught.value, WeightsError)
    assert caught.value.exit_code == 2
    assert published in str(caught.value)
    assert not (tmp_path / RECORD).exists()
    # What was downloaded amiss stays in Keras's folder, and is refused there from then on.
    with pytest.raises(WeightsError, match=published):
        resolve_weights(Workspace(tmp_path), wanted, 96)


def legacy_file(network: Any, path: Path, older_names: bool) -> Path:
    """As Keras 2 wrote it; its layers had slashes in their names, which make groups."""
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
        if older_names:
            names = list(file.attrs["layer_names"])
            older = [name.replace("_", "/", 1) for name in names]
            for name, other in zip(names, older, strict=True):
                if name != other:
                    file.move(name, other)
            file.attrs["layer_names"] = older
    return path


@pytest.mark.parametrize(
    ("name", "older_names"),
    [
        ("MobileNetV2", False),
        pytest.param("MobileNetV3Small", True, marks=pytest.mark.slow),
        pytest.param("EfficientNetV2B0", False, marks=pytest.mark.slow),
        pytest.param("ResNet50V2", True, marks=pytest.mark.slow),
        pytest.param("Xception", False, marks=pytest.mark.slow),
    ],
)
def test_files_of_keras_2_fill_every_layer(tmp_path: Path, name: str, older_names: bool) -> None:
    size_px, alpha = max(SIZE_PX, FAMILIES[name].smallest_px), FAMILIES[name].alphas[0]
    given = build_base(size_px, alpha, 1, name)
    path = legacy_file(given, tmp_path / "weights.h5", older_names)
    fresh = build_base(size_px, alpha, 2, name)
    load_into(fresh, BaseWeights(str(path), path, None))
    assert variables_digest(fresh.variables) == variables_digest(given.variables)


def test_weights_of_another_backbone_are_refused(tmp_path: Path, base: Any) -> None:
    path = legacy_file(base, tmp_path / "weights.h5", older_names=False)
    fresh = build_base(SIZE_PX, 0.75, 2, "MobileNetV3Small")
    with pytest.raises(WeightsError, match="MobileNetV3Small without its classifier"):
        load_into(fresh, BaseWeights(str(path), path, None))


def test_an_unreachable_download_says_how_to_work_offline(
    tmp_path: Path, keras_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_module, "_KERAS_ADDRESS", "http://127.0.0.1:9/")
    with pytest.raises(DownloadError, match="offline") as caught:
        resolve_weights(Workspace(tmp_path), BackboneParams(weights="imagenet", alpha=ALPHA), 96)
    assert str(keras_home / "models") in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_cut_that_does_not_exist_is_refused_with_the_nearest_names(base: Any) -> None:
    with pytest.raises(ParamsError, match=r"backbone.cut.*block_13_expand_rely") as caught:
        cut_after(base, "block_13_expand_rely")
    assert "block_13_expand_relu" in str(caught.value.allowed)


def test_shortcuts_make_layers_unclean(base: Any) -> None:
    clean = {layer.name: layer.clean for layer in layer_records(cut_after(base, "block_2_add"))}
    assert clean["block_1_project_BN"] and clean["block_2_add"]
    assert not clean["block_2_expand"] and not clean["block_2_project_BN"]
