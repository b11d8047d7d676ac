"""A bit of a file between two steps flips: the step that reads it says so, and nothing follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from graftline.cli.predict import show_predictions
from graftline.core.checksums import CHECKSUMS
from graftline.core.errors import DamagedFileError
from graftline.core.params import Params
from graftline.core.workspace import Workspace
from graftline.evaluation.answers import read_answers
from graftline.evaluation.feature_reference import read_reference
from graftline.steps.evaluate import evaluate
from graftline.steps.extract import extract
from graftline.steps.freeze import freeze
from graftline.steps.preprocess import preprocess
from graftline.steps.train import train
from tests.model import small
from tests.unit.core.test_checksums import rot

Step = Callable[[Workspace, Params], object]


def predict(workspace: Workspace, _: Params) -> object:
    return show_predictions(workspace, [str(workspace.root / "images.npz")], as_json=True)


def compare(workspace: Workspace, params: Params) -> object:
    evaluate(workspace, params)
    rot(workspace.evaluation / "predictions.parquet", 999)
    return read_answers(workspace.evaluation / "predictions.parquet")


def look_for_drift(workspace: Workspace, _: Params) -> object:
    return read_reference(workspace.trained)


CASES: list[tuple[str, Step]] = [
    ("data/loaded/dataset.json", preprocess),
    ("data/loaded/manifest.parquet", preprocess),
    ("data/loaded/images-00000.bin", preprocess),
    ("data/loaded/images-00000.bin", evaluate),
    ("data/loaded/classes.json", small.assemble),
    ("data/preprocessed/preprocessed.json", extract),
    ("data/preprocessed/manifest.parquet", extract),
    ("data/preprocessed/images-00000.bin", extract),
    ("models/assembled/assembled.json", freeze),
    ("models/assembled/frozen.tflite", extract),
    ("models/assembled/model.keras", train),
    ("models/freeze_plan.json", extract),
    ("models/freeze_plan.json", train),
    ("data/features/features.json", train),
    ("data/features/train.npy", train),
    ("data/features/validation.npy", train),
    ("models/trained/trained.json", evaluate),
    ("models/trained/model.tflite", evaluate),
    ("models/trained/model.tflite", predict),
    ("models/trained/trained.json", predict),
    ("models/trained/feature_reference.npz", look_for_drift),
]


@pytest.mark.parametrize(("name", "step"), CASES, ids=lambda one: getattr(one, "__name__", one))
def test_a_flipped_bit_is_noticed_by_who_reads_it(
    head_only: Workspace, tmp_path: Path, name: str, step: Step
) -> None:
    workspace = small.copied(head_only, tmp_path / "here")
    params = small.small_params("all")
    # In the middle, where formats hold values rather than their own signs.
    rot(workspace.root / name, 4 * (workspace.root / name).stat().st_size + 1)
    before = {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*.json")}
    with pytest.raises(DamagedFileError, match=f"{Path(name).name} is damaged"):
        step(workspace, params)
    assert {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*.json")} == before


def test_the_answers_that_are_compared(head_only: Workspace, tmp_path: Path) -> None:
    workspace = small.copied(head_only, tmp_path / "here")
    with pytest.raises(DamagedFileError, match="predictions.parquet is damaged"):
        compare(workspace, small.small_params("all"))


@pytest.mark.parametrize(
    "name",
    [
        "train-pooled.npy",
        pytest.param("train.npy", marks=pytest.mark.slow),
        pytest.param("validation.npy", marks=pytest.mark.slow),
    ],
)
def test_maps_at_a_boundary(last_block: Workspace, tmp_path: Path, name: str) -> None:
    workspace = small.copied(last_block, tmp_path / "here")
    rot(workspace.features / name, 80_001)
    with pytest.raises(DamagedFileError, match=f"{name} is damaged"):
        train(workspace, small.small_params({"last_blocks": 1}))


def test_every_folder_between_steps_lists_its_files(head_only: Workspace) -> None:
    folders = (
        head_only.loaded,
        head_only.preprocessed,
        head_only.assembled,
        head_only.features,
        head_only.trained,
    )
    for folder in folders:
        listed = {line.split("  ", 1)[1] for line in (folder / CHECKSUMS).read_text().splitlines()}
        assert listed == {path.name for path in folder.iterdir()} - {CHECKSUMS}
