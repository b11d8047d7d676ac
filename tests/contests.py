"""Executions of the pipeline from training on, with models whose mistakes are chosen."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graftline.core.params import Params, PromoteParams
from graftline.core.records import Dataset, Trained
from graftline.core.workspace import LITERT_FILE, Workspace
from graftline.registry import tracking
from graftline.registry.promotions import Promotion
from graftline.registry.tracking import registry
from graftline.steps.promote import promote
from graftline.steps.register import register
from tests import finished

ASKED = PromoteParams(min_accuracy=0.9, margin=-0.01, significance=0.05, max_recall_drop=0.05)
NAME = "graftline"


def save_bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has models saved without MLflow's wrapping, which nothing here loads and takes long."""

    def save(folder: Path, workspace: Workspace, trained: Trained, logged: Any) -> None:
        parts = folder / registry.NAME / "artifacts" / "trained"
        parts.mkdir(parents=True)
        for name in (LITERT_FILE, Trained.file_name()):
            shutil.copy(workspace.trained / name, parts / name)
        (folder / registry.NAME / "MLmodel").write_text("")

    monkeypatch.setattr(registry, "_save", save)


def params(asked: PromoteParams = ASKED) -> Params:
    return finished.some_params().model_copy(update={"promote": asked})


def run(
    workspace: Workspace,
    weights: str,
    wrong: Iterable[int],
    asked: PromoteParams = ASKED,
    images: int = finished.TEST_IMAGES,
    labels: np.ndarray | None = None,
) -> Promotion:
    """One execution of the pipeline from training on, whose model errs on some images."""
    wanted = params(asked)
    right = np.ones(images, bool)
    right[list(wrong)] = False
    finished.train(workspace, weights)
    finished.evaluate(workspace, float(right.mean()))
    finished.write_predictions(workspace, right, labels)
    run_id = tracking.open_run(workspace, wanted)
    promotion = promote(workspace, wanted, register(workspace, wanted, run_id), run_id)
    tracking.complete_run(run_id, workspace, wanted)
    return promotion


def load(
    workspace: Workspace,
    data: str,
    images: int = finished.TEST_IMAGES,
    trained: range = range(0),
    labels: np.ndarray | None = None,
) -> None:
    """Other data than before: another name makes other ones; see ``finished.write_images``."""
    finished.write_images(workspace, images, trained=trained, labels=labels)
    place = workspace.loaded / "dataset.json"
    dataset = Dataset.read(place)
    dataset.model_copy(update={"digest": finished.digest_of(data)}).write(place)


def champion(workspace: Workspace) -> str | None:
    version = tracking.find_version(workspace, NAME, "champion")
    return version.version if version else None
