"""What exported files tell of themselves, and how they are held against the original."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from graftline.core.errors import MissingOutputError
from graftline.core.files import sha256_file
from graftline.core.records import ExportedModel, Exports, OriginalModel
from graftline.core.workspace import Workspace
from graftline.formats import table
from graftline.formats.agreement import Agreement
from graftline.formats.contract import (
    Contract,
    InputContract,
    OutputContract,
    PreparationContract,
    append_contract,
    read_contract,
)
from graftline.formats.converters import quiet_converters
from graftline.formats.runners import onnx_providers
from graftline.formats.speeds import ORIGINAL, FormatSpeed, FormatSpeeds, read_speeds
from graftline.network.runners.litert import LiteRunner
from tests import finished

CLASSES = ("ant", "bee", "cow")
EXPORTS = Exports(
    original=OriginalModel(
        sha256="a", size_bytes=3_000_000, accuracy=0.98, test_images=1000, weight_digest="w"
    ),
    exported=(
        ExportedModel(
            format="litert_int8",
            path="model_int8.tflite",
            sha256="b",
            size_bytes=1_020_000,
            accuracy=0.977,
            agreement=0.991,
            largest_drop=0.03,
            largest_drop_class="a|b",
            other_answers={"a|b": 9},
        ),
        ExportedModel(
            format="onnx",
            path="model.onnx",
            sha256="c",
            size_bytes=3_010_000,
            accuracy=0.98,
            agreement=1.0,
            largest_drop=0.0,
            largest_drop_class=None,
            other_answers={},
        ),
    ),
)
SPEED = FormatSpeed(sha256="b", images_per_second=1234.5, load_s=0.25)


def contract(classes: tuple[str, ...] = finished.CLASSES) -> Contract:
    return Contract(
        format="litert_float32",
        graftline="1",
        weight_digest="w",
        classes=classes,
        input=InputContract(
            name="images",
            dtype="uint8",
            shape=(None, None, None, None),
            channels=(1, 3),
            value_range=(0, 255),
            largest_px=32,
        ),
        preparation=PreparationContract(
            resized_px=32, scaled_to="-1 to 1", scale=(1.0, 2.0, 3.0), offset=-1.0, bgr=False
        ),
        output=OutputContract(name="p", dtype="float32", scale=1.0, zero_point=0),
        signature=None,
    )


def comparison(labels: list[int], original: list[int], exported: list[int]) -> Agreement:
    return Agreement(np.array(labels), np.array(original), np.array(exported), CLASSES)


def test_a_litert_file_with_its_contract_answers_as_before(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    shutil.copy(finished.MODEL, path)
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 1), np.uint8)
    with LiteRunner(path) as runner:
        before = runner.run(images)
    append_contract(path, contract())
    assert path.read_bytes().startswith(finished.MODEL.read_bytes())
    with LiteRunner(path) as runner:
        np.testing.assert_array_equal(runner.run(images), before)
    assert read_contract(path) == contract()


def test_the_contract_is_read_without_graftline(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    shutil.copy(finished.MODEL, path)
    append_contract(path, contract(("snow\nwhite", "ærø")))
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().splitlines() == ["snow white", "ærø"]
        assert json.loads(archive.read("contract.json"))["classes"] == ["snow\nwhite", "ærø"]


def test_the_same_contract_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for name in ("one.tflite", "two.tflite"):
        shutil.copy(finished.MODEL, tmp_path / name)
        append_contract(tmp_path / name, contract())
        digests.add(sha256_file(tmp_path / name))
    assert len(digests) == 1


@pytest.mark.parametrize(
    "name", ["absent.tflite", "bare.tflite", "other.tflite", "broken.onnx", "folder"]
)
def test_what_carries_no_contract_is_told(tmp_path: Path, name: str) -> None:
    shutil.copy(finished.MODEL, tmp_path / "bare.tflite")
    with zipfile.ZipFile(tmp_path / "other.tflite", "w") as archive:
        archive.writestr("contract.json", '{"format": "litert_float32"}')
    (tmp_path / "broken.onnx").write_bytes(b"\xff\xff no model")
    (tmp_path / "folder").mkdir()
    with pytest.raises(MissingOutputError) as caught:
        read_contract(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)


def test_a_comparison_counts_images_and_classes() -> None:
    one = comparison([0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0], [0, 1, 1, 0, 1, 1])
    assert one.accuracy == 4 / 6
    assert one.agreement == 2 / 6
    assert one.other_answers == {"ant": 3, "bee": 1}
    # Ant: 3 of 4 before, 2 of 4 now; bee gains; cow has no image.
    assert one.lost.tolist() == [1, -1, 0]
    assert one.largest_drop == (0.25, "ant")


def test_an_objection_names_the_classes_it_is_about() -> None:
    one = comparison([0] * 4 + [1] * 4, [0] * 4 + [1] * 4, [0, 2, 2, 1, 1, 1, 1, 0])
    agreement, drop = one.objections(0.9, 0.3)
    assert "50.00% of 8 test images" in agreement
    assert "ant (3 of 4, mostly named cow), bee (1 of 4, mostly named ant)" in agreement
    assert "falls by more than 30.00%: ant by 75.00% (3 of 4 images)" in drop
    assert "bee" not in drop
    assert one.objections(0.5, 0.75) == []


def test_one_image_may_always_differ() -> None:
    assert comparison([0, 0, 1], [0, 0, 1], [0, 1, 1]).objections(1.0, 0.0) == []
    assert len(comparison([0, 0, 1], [0, 0, 1], [1, 1, 1]).objections(1.0, 0.0)) == 2


LABELS = st.integers(1, 30).flatmap(
    lambda size: st.tuples(*[st.lists(st.integers(0, 2), min_size=size, max_size=size)] * 3)
)


@given(LABELS)
@settings(max_examples=50)
def test_any_comparison_adds_up(given_labels: tuple[list[int], list[int], list[int]]) -> None:
    labels, original, exported = given_labels
    one = comparison(labels, original, exported)
    differing = sum(one.other_answers.values())
    assert one.agreement == pytest.approx(1 - differing / len(labels))
    right = sum(a == b for a, b in zip(labels, original, strict=True))
    assert right - one.lost.sum() == pytest.approx(one.accuracy * len(labels))
    assert one.objections(0.0, 1.0) == []
    assert (one.objections(1.0, 1.0) == []) == (differing <= 1)
    assert one.largest_drop[0] >= 0
    same = comparison(labels, original, original)
    assert (same.agreement, same.largest_drop) == (1.0, (0.0, None))


def test_speeds_are_those_of_the_very_files(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert read_speeds(workspace, EXPORTS) is None
    other = SPEED.model_copy(update={"sha256": "changed"})
    measured = {"litert_int8": SPEED, "onnx": other, ORIGINAL: other}
    FormatSpeeds(cores=2, measured=measured).write(FormatSpeeds.path_in(workspace))
    found = read_speeds(workspace, EXPORTS)
    assert found is not None
    assert found.measured == {"litert_int8": SPEED}
    assert read_speeds(workspace, Exports(original=None, exported=())) is None


def test_the_table_has_a_row_for_each_format_below_the_original() -> None:
    text = table.markdown(EXPORTS)
    head, _, original, int8, onnx, *_ = text.splitlines()
    assert "images/s" not in head
    assert original.startswith("| original | model.tflite | 3.00 MB | 98.00% |")
    assert int8 == (
        "| litert_int8 | model_int8.tflite | 1.02 MB | 97.70% | 99.10% | 3.00% (a\\|b) |"
    )
    assert onnx.endswith("| 100.00% | 0.00% |")
    assert "all 1,000 test images" in text


def test_the_table_shows_speeds_where_they_are_known() -> None:
    lines = table.markdown(
        EXPORTS, FormatSpeeds(cores=2, measured={"litert_int8": SPEED})
    ).splitlines()
    assert lines[0].endswith("| images/s | load |")
    assert lines[3].endswith("| 1,234 | 0.25 s |")
    assert lines[4].endswith("|  |  |")
    assert len({line.replace("\\|", "").count("|") for line in lines[:5]}) == 1


def test_the_table_fits_a_terminal() -> None:
    stream = io.StringIO()
    speeds = FormatSpeeds(cores=2, measured={"litert_int8": SPEED})
    Console(file=stream, width=80).print(table.terminal_table(EXPORTS, speeds))
    [row] = [line for line in stream.getvalue().splitlines() if "litert_int8" in line]
    assert row.split() == "litert_int8 1.02 MB 97.70% 99.10% 3.00% (a|b) 1,234 0.25 s".split()


def test_nothing_exported_is_said_as_such() -> None:
    assert "Nothing is exported" in table.markdown(Exports(original=None, exported=()))


def test_what_others_tell_while_a_converter_works_is_seen(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with quiet_converters():
        os.write(2, b"a native library's last words\n")
        sys.stdout.write("another thread's line\n")
    said = capfd.readouterr()
    assert said.err == "a native library's last words\n"
    assert said.out == "another thread's line\n"


@pytest.mark.parametrize(
    ("device", "present", "asked"),
    [
        ("auto", ["CPUExecutionProvider"], ["CPUExecutionProvider"]),
        (
            "auto",
            ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
            ["CUDAExecutionProvider", "CPUExecutionProvider"],
        ),
        ("cpu", ["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]),
    ],
)
def test_onnx_runtime_is_asked_for_a_gpu_first(
    device: str, present: list[str], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: present)
    assert onnx_providers(device) == asked


def test_the_table_says_who_ran_the_onnx_file() -> None:
    ran = SPEED.model_copy(update={"answered_by": "ONNX Runtime, CPUExecutionProvider"})
    told = table.caption(EXPORTS, FormatSpeeds(cores=2, measured={"onnx": ran}))
    assert told.endswith("The ONNX file was run by ONNX Runtime, CPUExecutionProvider.")
