"""Whatever the engine and the number of workers, each step writes the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graftline.compute import working_on
from graftline.core.files import sha256_file
from graftline.core.params import ComputeParams, Params
from graftline.core.workspace import Workspace
from graftline.data.sources import catalog
from graftline.evaluation import predictor
from graftline.steps import extract as extracting
from graftline.steps import preprocess as preprocessing
from graftline.steps.assemble import assemble
from graftline.steps.evaluate import evaluate
from graftline.steps.extract import extract
from graftline.steps.freeze import freeze
from graftline.steps.load import load
from graftline.steps.preprocess import preprocess
from graftline.steps.train import train
from tests.model import small

ENGINES = [ComputeParams(workers=workers) for workers in (1, 2, 3)]
CLUSTERS = [ComputeParams(engine="dask", workers=workers) for workers in (1, 2, 3)]
WRITTEN = ("data/loaded", "data/preprocessed", "data/features", "reports/evaluation")


def write_photographs(folder: Path) -> None:
    """Files of several forms and sizes, grey ones and one of 16 bits among them, one broken."""
    for seed in range(90):
        label = seed % 3
        height, width = (20, 20) if seed % 4 else (48, 30 + seed % 5)
        pixels = small.pattern(label, height, width, 1 if seed % 5 == 0 else 3, seed)
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        path = folder / small.CLASSES[label] / f"{seed}.{'jpg' if seed % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    deep = small.pattern(0, 20, 20, 1, 99)[..., 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "0" / "deep.png")
    (folder / "1" / "broken.png").write_bytes((folder / "1" / "4.png").read_bytes()[:80])


def with_folder(params: Params) -> Params:
    data = {"source": "folder", "path": "photographs", "on_corrupt": "skip"}
    return params.model_copy(update={"data": params.data.model_copy(update=data)})


@pytest.fixture(autouse=True)
def many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_BATCH_FILES", 7)
    monkeypatch.setattr(preprocessing, "_BATCH_BYTES", 9_000)
    monkeypatch.setattr(extracting, "_batch_size", lambda *_: 8)
    monkeypatch.setattr(predictor, "_CHUNK_IMAGES", 5)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Params]]:
    """All steps on threads."""
    workspace = Workspace(tmp_path_factory.mktemp("finished"))
    write_photographs(workspace.root / "photographs")
    turned = {"rotation_degrees": 20.0, "views": 2, "on_unsafe": "warn"}
    params = with_folder(small.small_params({"last_blocks": 1}, augment=turned))
    for step in (load, preprocess, assemble, freeze, extract, train, evaluate):
        step(workspace, params)
    yield workspace, params


def written(workspace: Workspace) -> dict[str, str]:
    return {
        str(path.relative_to(workspace.root)): sha256_file(path)
        for folder in WRITTEN
        for path in sorted((workspace.root / folder).rglob("*"))
        if path.is_file()
    }


def again(finished: tuple[Workspace, Params], root: Path, compute: ComputeParams) -> Workspace:
    source, params = finished
    workspace = Workspace(root)
    shutil.copytree(source.root, root, dirs_exist_ok=True)
    for folder in WRITTEN:
        shutil.rmtree(root / folder)
    with working_on(root, compute, "evaluate", "key"):
        for step in (load, preprocess, extract, evaluate):
            step(workspace, params)
    return workspace


CHOSEN = ("race.csv", "race_answers.csv", "profile.csv", "candidates.csv", "verdict.json")


def chosen(finished: tuple[Workspace, Params], root: Path, compute: ComputeParams) -> list[str]:
    """What ``freeze`` writes where it measures and races."""
    source, params = finished
    workspace = Workspace(root)
    shutil.copytree(source.root, root, dirs_exist_ok=True)
    made = small.small_params("auto", augment={"views": 2, "on_unsafe": "warn"})
    asked = {"freeze": made.freeze, "compute": compute}
    with working_on(root, compute, "freeze", "key"):
        freeze(workspace, params.model_copy(update=asked))
    written = [workspace.freezing_report / name for name in CHOSEN]
    return [sha256_file(path) for path in (workspace.freeze_plan, *written)]


@pytest.mark.slow
def test_the_choice_is_the_same(finished: tuple[Workspace, Params], tmp_path: Path):
    found = [
        chosen(finished, tmp_path / f"{compute.engine}-{compute.workers}", compute)
        for compute in [*ENGINES, *CLUSTERS]
    ]
    assert found == [found[0]] * len(found)
    # What a worker's helper has written for itself goes with it.
    assert not list(tmp_path.glob("*/var/.graftline.tmp-*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "compute", [*ENGINES, *CLUSTERS], ids=lambda one: f"{one.engine}-{one.workers}"
)
def test_the_bytes_are_the_same(
    finished: tuple[Workspace, Params], tmp_path: Path, compute: ComputeParams
):
    assert written(again(finished, tmp_path, compute)) == written(finished[0])
