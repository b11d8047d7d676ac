"""The trained network in every format: same labels, raw images in, loadable without Graftline."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from graftline.core.errors import ExportError
from graftline.core.files import sha256_file
from graftline.core.params import ExportParams, Params
from graftline.core.records import ExportFormat, Exports, Trained
from graftline.core.workspace import Workspace
from graftline.data.resize import shrink
from graftline.data.shards import PackedImages
from graftline.evaluation.predictor import Predictor
from graftline.formats import converters, exporter, runners
from graftline.formats.contract import read_contract
from graftline.formats.converters import ONNX_OPSET, PATHS
from graftline.formats.speeds import ORIGINAL, read_speeds
from graftline.network.runners.litert import LiteRunner
from graftline.steps.export import export
from tests.model import small

FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
WITHOUT_GRAFTLINE = """
import json, sys
sys.modules["graftline"] = None
import numpy as np
"""
ONNX_ALONE = """
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
found = session.get_modelmeta().custom_metadata_map
labels = found["graftline.labels"].split()
name = json.loads(found["graftline.contract"])["input"]["name"]
answers = session.run(None, {name: np.load(sys.argv[2])})[0]
print(json.dumps([labels, answers.tolist()]))
"""
SAVED_MODEL_ALONE = """
from pathlib import Path
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
labels = Path(loaded.labels.asset_path.numpy().decode()).read_text().split()
contract = json.loads(Path(loaded.contract.asset_path.numpy().decode()).read_text())
function = loaded.signatures[contract["signature"]]
answers = function(images=tf.constant(np.load(sys.argv[2])))[contract["output"]["name"]]
print(json.dumps([labels, answers.numpy().tolist()]))
"""


def asking_for(*formats: ExportFormat, **others: object) -> Params:
    # The random network's classes lie close together, so that integers may confuse some.
    lenient = {"min_agreement": {"litert_int8": 0.5}, "max_class_drop": {"litert_int8": 1.0}}
    record = {"formats": list(formats), "calibration_images": 20, **lenient, **others}
    section = ExportParams.model_validate_json(json.dumps(record))
    return small.small_params().model_copy(update={"export": section})


@pytest.fixture(scope="module")
def exported(head_only: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The small network in all formats."""
    workspace = small.copied(head_only, tmp_path_factory.mktemp("exported"))
    export(workspace, asking_for(*FORMATS))
    return workspace


def images(*sizes: tuple[int, int], channels: int) -> list[NDArray[np.uint8]]:
    return [small.pattern(at % 3, *size, channels, at) for at, size in enumerate(sizes)]


def answers(workspace: Workspace, format: ExportFormat, image: NDArray[np.uint8]) -> NDArray:
    runner = runners.open_exported(format, workspace.exports / PATHS[format])
    try:
        return runner.run(image[np.newaxis])[0]
    finally:
        runner.close()


def test_each_format_lies_there_with_its_figures(exported: Workspace) -> None:
    exports = Exports.read(exported.exports / "exports.json")
    assert exports.original is not None
    assert tuple(one.format for one in exports.exported) == FORMATS
    sizes = {one.format: one.size_bytes for one in exports.exported}
    assert sizes["litert_float16"] < sizes["litert_float32"]
    for one in exports.exported:
        assert (exported.exports / one.path).exists()
        wanted = {"litert_int8": 0.5, "litert_float16": 0.97}.get(one.format, 1.0)
        assert one.agreement >= wanted
        assert one.accuracy == pytest.approx(exports.original.accuracy, abs=1.001 - wanted)
    speeds = read_speeds(exported, exports)
    assert speeds is not None
    assert set(speeds.measured) == {ORIGINAL, *FORMATS}
    assert all(one.images_per_second > 0 for one in speeds.measured.values())


def test_the_report_lists_each_image_with_another_label(exported: Workspace) -> None:
    exports = Exports.read(exported.exports / "exports.json")
    with (exported.exports_report / "differences.csv").open() as file:
        rows = list(csv.DictReader(file))
    for one in exports.exported:
        mine = [row for row in rows if row["format"] == one.format]
        assert len(mine) == sum(one.other_answers.values())
        assert all(row["original"] != row["exported"] for row in mine)
    assert "litert_int8" in (exported.exports_report / "table.md").read_text()


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_takes_raw_images_of_any_size(
    exported: Workspace, format: ExportFormat
) -> None:
    trained = Trained.read(exported.trained / "trained.json")
    contract = read_contract(exported.exports / PATHS[format])
    assert contract.classes == trained.classes
    assert contract.weight_digest == trained.weight_digest
    assert contract.input.white == trained.white
    for channels in contract.input.channels:
        for image in images((7, 5), (32, 32), (50, 40), channels=channels):
            with Predictor(exported.trained) as predictor:
                (expected,) = predictor.probabilities([image])
            largest_px = contract.input.largest_px
            given = image if largest_px is None else shrink(image, largest_px)
            # A filter of Pillow's here and of TensorFlow's there; integers have steps of 1 / 256.
            tolerance = {"saved_model": 0.05, "litert_int8": 0.35, "litert_float16": 5e-3}
            found = answers(exported, format, given)
            np.testing.assert_allclose(found, expected, atol=tolerance.get(format, 1e-4))


def test_int8_holds_nothing_but_integers(exported: Workspace) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(exported.exports / PATHS["litert_int8"]))
    ends = interpreter.get_input_details() + interpreter.get_output_details()
    assert [end["dtype"] for end in ends] == [np.uint8, np.uint8]
    kinds = {np.dtype(one["dtype"]) for one in interpreter.get_tensor_details()}
    assert not [kind for kind in kinds if kind.kind == "f"]


def test_calibration_looks_at_training_images_alone(
    head_only: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    def note(network: exporter.Network, format: ExportFormat, folder: Path) -> Path:
        seen.extend(image.tobytes() for image in network.calibration())
        path = folder / PATHS["litert_float32"]
        path.write_bytes((head_only.trained / "model.tflite").read_bytes())
        return path

    monkeypatch.setattr(exporter, "make", note)
    monkeypatch.setattr(exporter, "open_exported", lambda _, path, __: LiteRunner(path))
    workspace = small.copied(head_only, tmp_path)
    export(workspace, asking_for("litert_int8"))
    packed = PackedImages.open(workspace.preprocessed)
    train = {packed.image(int(at)).tobytes() for at in packed.indices("train")}
    assert len(seen) == len(set(seen)) == 20
    assert set(seen) <= train


def test_one_that_strays_too_far_is_refused_and_the_earlier_ones_stay(
    exported: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = small.copied(exported, tmp_path)
    before = everything(workspace)

    class Stubborn:
        title = "none"

        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.tile(np.float32([0, 1, 0]), (len(images), 1))

        def close(self) -> None:
            pass

    monkeypatch.setattr(exporter, "open_exported", lambda *_: Stubborn())
    with pytest.raises(ExportError) as caught:
        export(workspace, asking_for("litert_float32"))
    text = str(caught.value)
    assert caught.value.exit_code == 2
    assert "litert_float32" in text
    assert "2 (12 of 12, mostly named 1)" in text
    assert "recall falls by more than 0.00%" in text
    assert everything(workspace) == before


def test_a_network_that_a_converter_cannot_take_is_told(
    exported: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no kernel\n  for this")

    monkeypatch.setitem(converters._MAKERS, "onnx", fail)
    with pytest.raises(ExportError, match="brought into onnx: RuntimeError: no kernel for this"):
        export(small.copied(exported, tmp_path), asking_for("onnx"))


def test_onnx_runs_without_graftline(exported: Workspace, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(exported.exports / "model.onnx")
    assert [one.version for one in model.opset_import if one.domain == ""] == [ONNX_OPSET]
    assert_alone(ONNX_ALONE, exported, "onnx", tmp_path)


@pytest.mark.slow
def test_a_saved_model_runs_without_graftline_and_without_keras(
    exported: Workspace, tmp_path: Path
) -> None:
    code = 'sys.modules["keras"] = None\n' + SAVED_MODEL_ALONE
    assert_alone(code, exported, "saved_model", tmp_path)


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes(head_only: Workspace, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        workspace = small.copied(head_only, tmp_path / name)
        params = asking_for(*FORMATS).model_dump(mode="json", by_alias=True)
        workspace.params_file.write_text(json.dumps(params))
        subprocess.run(
            [sys.executable, "-m", "graftline", "export", "-C", str(workspace.root)],
            check=True,
            timeout=600,
        )
        found.append(everything(workspace))
    assert found[0] == found[1]


def assert_alone(code: str, workspace: Workspace, format: ExportFormat, folder: Path) -> None:
    batch = np.stack([small.pattern(at % 3, 20, 20, 1, at) for at in range(4)])
    np.save(folder / "images.npy", batch)
    path = workspace.exports / PATHS[format]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_GRAFTLINE + code, str(path), str(folder / "images.npy")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    labels, found = json.loads(done.stdout.splitlines()[-1])
    assert tuple(labels) == small.CLASSES
    with Predictor(workspace.trained) as predictor:
        expected = predictor.probabilities(list(batch))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def everything(workspace: Workspace) -> dict[str, str]:
    folders = (workspace.exports, workspace.exports_report)
    return {
        path.relative_to(workspace.root).as_posix(): sha256_file(path)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }
