"""Models made to do harm: in a ``.keras`` archive, in weights, in a model folder."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from graftline.core.errors import GraftlineError, MissingOutputError, WeightsError
from graftline.evaluation.predictor import Predictor
from graftline.network.keras_io import load_model
from graftline.network.pretrained import BaseWeights, load_into


def test_what_the_others_are_altered_from_is_loaded(tmp_path: Path) -> None:
    import keras

    model = load_model(saved(tmp_path / "model.keras", keras.layers.Dense(2)))
    assert model.count_params() == 10


def refused(path: Path) -> str:
    with pytest.raises(MissingOutputError) as caught:
        load_model(path)
    return str(caught.value)


def saved(path: Path, layer: Any) -> Path:
    import keras

    features = keras.Input((4,))
    keras.Model(features, layer(features)).save(path)
    return path


def rewritten(path: Path, changes: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()} | changes
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_lambda_is_not_run(tmp_path: Path) -> None:
    import keras

    touched = tmp_path / "touched"
    # Its code, were it run, would leave a mark.
    layer = keras.layers.Lambda(lambda x, place=str(touched): (open(place, "w").close(), x)[1])
    path = saved(tmp_path / "model.keras", layer)
    touched.unlink(missing_ok=True)
    assert "'keras.layers.Lambda', which no model here holds" in refused(path)
    assert not touched.exists()


def test_a_class_of_any_module_is_not_made(tmp_path: Path) -> None:
    import keras

    path = saved(tmp_path / "model.keras", keras.layers.Dense(2))
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
    config = config.replace(b'"module": "keras.layers"', b'"module": "subprocess"')
    config = config.replace(b'"class_name": "Dense"', b'"class_name": "Popen"')
    assert b"Popen" in config
    assert "'subprocess.Popen'" in refused(rewritten(path, {"config.json": config}))


def part(module: str | None, name: str, config: object) -> dict[str, object]:
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def function(module: str, name: str) -> dict[str, object]:
    return part(module, "function", name) | {"registered_name": "function"}


DOWNLOADS = part(
    "keras.layers",
    "Lambda",
    {"name": "x", "function": function("keras.datasets.imdb", "load_data"), "arguments": {}},
)


@pytest.mark.parametrize(
    "layer",
    [
        # This one downloads, into the home, while Keras 3.15 loads the model in its safe mode.
        DOWNLOADS | {"inbound_nodes": [{"args": [], "kwargs": {"inputs": "imdb.npz"}}]},
        part("keras.layers", "StringLookup", {"name": "x", "vocabulary": "/etc/passwd"}),
        part("keras.layers", "TextVectorization", {"name": "x", "vocabulary": "http://127.0.0.1"}),
        part("keras.layers", "TFSMLayer", {"name": "x", "filepath": "/tmp/model"}),
        part("keras.layers", "TorchModuleWrapper", {"name": "x", "module": "gASV"}),
        part("keras.layers", "Dense", {"activation": function("keras.models", "load_model")}),
        part("keras.layers", "Dense", {"dtype": part(None, "__lambda__", {"code": "4wEA"})}),
        # Not loaded by these names, but by those that an earlier Keras would have found there.
        part(None, "Lambda", {"function": ["4wEA", None, None]}),
        part("keras.layers", "Dense", {"name": "x"})
        | {"compile_config": {"loss": function("keras.utils", "get_file")}},
    ],
)
def test_what_is_no_layer_of_ours_is_not_even_shown_to_keras(
    tmp_path: Path, layer: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    path = saved(tmp_path / "model.keras", keras.layers.Dense(2))
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"].append(layer)
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("it was loaded"))
    rewritten(path, {"config.json": json.dumps(config).encode()})
    assert "which no model here holds" in refused(path)


@pytest.mark.parametrize("config", [b"", b"{", b"[" * 100_000, b"null", b'{"class_name": 1}'])
def test_a_broken_config(tmp_path: Path, config: bytes) -> None:
    import keras

    path = saved(tmp_path / "model.keras", keras.layers.Dense(2))
    refused(rewritten(path, {"config.json": config}))


@pytest.mark.parametrize(
    "names",
    [
        ("../../slipped",),
        ("/tmp/graftline-slipped",),
        ("assets/link",),
        ("config.json",),
        ("model.weights.npz",),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_no_model_has(tmp_path: Path, names: tuple[str, ...]) -> None:
    import keras

    folder = tmp_path / "deep" / "deeper"
    folder.mkdir(parents=True)
    path = saved(folder / "model.keras", keras.layers.Dense(2))
    with zipfile.ZipFile(path, "a") as archive:
        for name in names:
            member = zipfile.ZipInfo(name)
            member.external_attr = 0o120777 << 16  # A link, to programs that unpack it as one.
            archive.writestr(member, b"/etc/passwd")
    assert "and not what a model holds" in refused(path)
    assert not (tmp_path / "slipped").exists()
    assert not Path("/tmp/graftline-slipped").exists()


def weights_elsewhere(file: h5py.File, outside: Path) -> None:
    file.create_dataset("a", (6,), "u1", external=[(str(outside), 0, 6)])


def weights_of_one_text(file: h5py.File, outside: Path) -> None:
    file.create_dataset("a", (1000,), h5py.string_dtype())[0] = "x" * 100_000


@pytest.mark.parametrize(
    ("built", "told"),
    [
        (weights_elsewhere, "points elsewhere for its values"),
        (weights_of_one_text, "as decompression bombs do"),
    ],
)
def test_the_weights_in_a_model_are_looked_through_too(
    tmp_path: Path, built: Callable[[h5py.File, Path], None], told: str
) -> None:
    import keras

    path = saved(tmp_path / "model.keras", keras.layers.Dense(2))
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    with h5py.File(tmp_path / "made.h5", "w") as file:
        built(file, outside)
    rewritten(path, {"model.weights.h5": (tmp_path / "made.h5").read_bytes()})
    assert told in refused(path)


def test_a_bomb(tmp_path: Path) -> None:
    import keras

    path = saved(tmp_path / "model.keras", keras.layers.Dense(2))
    rewritten(path, {"assets/zeros": bytes(40 << 20)})
    assert "as decompression bombs do" in refused(path)


def test_weights_with_an_external_link(tmp_path: Path) -> None:
    import h5py

    from graftline.network.cutting import build_base

    backbone = build_base(32, 0.35, 0)
    backbone.save_weights(tmp_path / "other.weights.h5")
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["layers"] = h5py.ExternalLink("other.weights.h5", "/layers")
    with pytest.raises(WeightsError, match="points elsewhere"):
        load_into(backbone, BaseWeights("file", tmp_path / "a.weights.h5", None))


def test_only_the_file_whose_hash_was_checked_is_read(tmp_path: Path) -> None:
    from graftline.network.cutting import build_base

    meant, other = build_base(32, 0.35, 1), build_base(32, 0.35, 2)
    meant.save_weights(tmp_path / "as.weights.h5")
    (tmp_path / "as.weights.h5").rename(tmp_path / "a.h5")
    # Beside it lies a file of the name that Keras wants, which nobody has checked.
    other.save_weights(tmp_path / "a.weights.h5")
    backbone = build_base(32, 0.35, 3)
    load_into(backbone, BaseWeights("file", tmp_path / "a.h5", None))
    for one, two in zip(backbone.get_weights(), meant.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("record", [b"", b"{}", b"\xff\xfe", b"[" * 100_000, None])
def test_a_model_folder_with_a_broken_record(tmp_path: Path, record: bytes | None) -> None:
    if record is None:
        (tmp_path / "trained.json").mkdir()
    else:
        (tmp_path / "trained.json").write_bytes(record)
    with pytest.raises(GraftlineError) as caught:
        Predictor(tmp_path)
    assert caught.value.exit_code == 2
