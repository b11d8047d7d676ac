"""Models made to do harm: in a ``.keras`` archive, in weights, in a model folder."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from graftline.core.errors import GraftlineError, MissingOutputError, WeightsError
from graftline.evaluation.predictor import Predictor
from graftline.network.keras_io import load_model
from graftline.network.pretrained import BaseWeights, load_into


def refused(path: Path) -> str:
    with pytest.raises(MissingOutputError) as caught:
        load_model(path)
    return str(caught.value)


def saved(path: Path, *layers: object) -> Path:
    import keras

    keras.Sequential([keras.Input((4,)), *layers]).save(path)
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
    assert "can be trusted" in refused(path)
    assert not touched.exists()


def test_a_class_of_any_module_is_not_made(tmp_path: Path) -> None:
    import keras

    path = saved(tmp_path / "model.keras", keras.layers.Dense(2))
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
    config = config.replace(b'"module": "keras.layers"', b'"module": "subprocess"')
    config = config.replace(b'"class_name": "Dense"', b'"class_name": "Popen"')
    assert b"Popen" in config
    refused(rewritten(path, {"config.json": config}))


@pytest.mark.parametrize("config", [b"", b"{", b"[" * 100_000, b"null", b'{"class_name": 1}'])
def test_a_broken_config(tmp_path: Path, config: bytes) -> None:
    import keras

    path = saved(tmp_path / "model.keras", keras.layers.Dense(2))
    refused(rewritten(path, {"config.json": config}))


def test_members_that_lead_out_write_nothing(tmp_path: Path) -> None:
    import keras

    folder = tmp_path / "deep" / "deeper"
    folder.mkdir(parents=True)
    path = saved(folder / "model.keras", keras.layers.Dense(2))
    rewritten(path, {"../../slipped": b"x", "/tmp/graftline-slipped": b"x"})
    try:
        load_model(path)
    except MissingOutputError:
        pass
    assert not (tmp_path / "slipped").exists()
    assert not Path("/tmp/graftline-slipped").exists()


def test_a_bomb(tmp_path: Path) -> None:
    import keras

    path = saved(tmp_path / "model.keras", keras.layers.Dense(2))
    rewritten(path, {"assets/zeros": bytes(40 << 20)})
    assert "as decompression bombs do" in refused(path)


def test_weights_with_an_external_link(tmp_path: Path) -> None:
    import h5py

    from graftline.network.cutting import build_base

    trunk = build_base(32, 0.35, 0)
    trunk.save_weights(tmp_path / "other.weights.h5")
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["layers"] = h5py.ExternalLink("other.weights.h5", "/layers")
    with pytest.raises(WeightsError, match="points elsewhere"):
        load_into(trunk, BaseWeights("file", tmp_path / "a.weights.h5", None))


def test_only_the_file_whose_hash_was_checked_is_read(tmp_path: Path) -> None:
    from graftline.network.cutting import build_base

    meant, other = build_base(32, 0.35, 1), build_base(32, 0.35, 2)
    meant.save_weights(tmp_path / "as.weights.h5")
    (tmp_path / "as.weights.h5").rename(tmp_path / "a.h5")
    # Beside it lies a file of the name that Keras wants, which nobody has checked.
    other.save_weights(tmp_path / "a.weights.h5")
    trunk = build_base(32, 0.35, 3)
    load_into(trunk, BaseWeights("file", tmp_path / "a.h5", None))
    for one, two in zip(trunk.get_weights(), meant.get_weights(), strict=True):
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
