"""The race's trainer: what the step ``train`` does, briefly, and the same each time."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graftline.core.params import LastBlocks
from graftline.core.records import Assembled
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.network.freeze_plans import Strategy
from graftline.selection.candidates import Candidate, make_candidate
from graftline.selection.folds import Fold, race_folds
from graftline.selection.records import Verdict
from graftline.selection.trainer import CandidateTrainer
from graftline.steps.extract import extract
from graftline.steps.freeze import choice_settings, freeze
from graftline.steps.train import fit
from graftline.training.loop import Loop
from graftline.training.temperature import tempered
from tests.model import small

CUT = "block_2_add"
TUNE = {"epochs": 6, "batch_size": 16, "learning_rate": 0.005}


@pytest.fixture(scope="module")
def folds(assembled: Workspace) -> tuple[Fold, ...]:
    return race_folds(PackedImages.open(assembled.preprocessed), seed=3)


def trainer(workspace: Workspace) -> CandidateTrainer:
    params = small.small_params("auto", tune=TUNE)
    return CandidateTrainer(workspace, choice_settings(params))


def candidate(workspace: Workspace, strategy: Strategy, **options: str) -> Candidate:
    record = Assembled.read(workspace.assembled / "assembled.json")
    return make_candidate(record, strategy, CUT, **options)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["all", LastBlocks(last_blocks=1)])
def test_a_trial_is_the_same_whatever_came_before_it(
    strategy: Strategy, assembled: Workspace, folds: tuple[Fold, ...]
) -> None:
    one = candidate(assembled, strategy)
    fresh = trainer(assembled).run(one, 256, folds[1], seed=3)
    used = trainer(assembled)
    for before in (candidate(assembled, LastBlocks(last_blocks=2)), one):
        used.run(before, 64, folds[0], seed=3)
    again = used.run(one, 256, folds[1], seed=3)
    assert np.array_equal(fresh.right, again.right)
    assert fresh.loss == again.loss
    assert fresh.right.shape == folds[1].held_out.shape


@pytest.mark.slow
def test_showing_nothing_new_is_the_heads_own_answer(
    assembled: Workspace, folds: tuple[Fold, ...]
) -> None:
    head_only = candidate(assembled, "all")
    short, long = (trainer(assembled).run(head_only, shown, folds[0], 3) for shown in (16, 512))
    assert short.loss == long.loss
    assert short.right.mean() > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_trial_takes_as_many_steps_as_a_full_tuning(
    share: float, assembled: Workspace, folds: tuple[Fold, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned, steps = small.small_params("auto", tune=TUNE).tune, []
    train_on = Loop.train_on

    def counted(loop: Loop, images: Any, labels: Any) -> Any:
        if loop.objective.label_smoothing:  # Not the head.
            steps.append(len(labels))
        return train_on(loop, images, labels)

    monkeypatch.setattr(Loop, "train_on", counted)
    images = len(folds[0].train)
    shown = round(share * tuned.epochs) * images
    trainer(assembled).run(candidate(assembled, LastBlocks(last_blocks=1)), shown, folds[0], 3)
    full = tuned.epochs * math.ceil(images / tuned.batch_size)
    assert sum(steps) == pytest.approx(full, rel=0.15)


def as_train_does(workspace: Workspace) -> Fold:
    """The true splits; the validation images are answered, too."""
    images = PackedImages.open(workspace.preprocessed)
    train, validation = images.indices("train"), images.indices("validation")
    return Fold(0, train, validation, validation)


ALL_OF_TRAIN = {
    "epochs": 5,
    "schedule": "cosine",
    "class_weights": "balanced",
    "label_smoothing": 0.05,
    "mixup": 0.2,
    "ema": 0.9,
    "early_stopping_patience": 2,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "sections"),
    [
        (
            "all",
            {
                "train": ALL_OF_TRAIN,
                "augment": {"translation": 0.1, "views": 3, "on_unsafe": "warn"},
            },
        ),
        pytest.param(
            {"last_blocks": 2},
            {
                "train": ALL_OF_TRAIN,
                "augment": {"translation": 0.1, "views": 3, "on_unsafe": "warn"},
                "tune": TUNE | {"gradual_unfreezing": True},
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "none",
            {
                "train": {"epochs": 2},
                "augment": {"contrast": 0.2, "on_unsafe": "warn"},
                "tune": TUNE,
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_whole_trial_is_what_train_does(
    strategy: Any, sections: dict[str, Any], assembled: Workspace, tmp_path: Path
) -> None:
    workspace = small.copied(assembled, tmp_path)
    params = small.small_params(strategy, **sections)
    freeze(workspace, params)
    extract(workspace, params)
    images, fold = PackedImages.open(workspace.preprocessed), as_train_does(workspace)
    classifier = fit(workspace, params).classifier
    answers = small.answers(classifier, images.batch(fold.held_out))
    labels = images.labels[fold.held_out]
    trainer = CandidateTrainer(workspace, choice_settings(params))
    one = make_candidate(
        Assembled.read(workspace.assembled / "assembled.json"), params.freeze.strategy, CUT
    )
    # Heads of other folds, and shorter tunings, come before it in a race.
    trainer.run(one, 40, replace(fold, number=1, train=fold.train[1:]), seed=3)
    trial = trainer.run(one, params.tune.epochs * len(fold.train), fold, seed=3)
    assert (trial.right == (answers.argmax(axis=1) == labels)).all()
    expected = tempered(np.log(answers), labels).losses
    assert trial.losses == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_tuning_learns_from_what_it_is_shown(assembled: Workspace, folds: tuple[Fold, ...]) -> None:
    last = candidate(assembled, LastBlocks(last_blocks=1))
    short, long = (trainer(assembled).run(last, shown, folds[0], 3) for shown in (32, 1600))
    assert long.loss < short.loss


@pytest.mark.slow
def test_adapted_statistics_are_those_of_the_folds_own_training_images(
    assembled: Workspace, folds: tuple[Fold, ...]
) -> None:
    one = trainer(assembled)
    kept = one.run(candidate(assembled, "all"), 64, folds[0], 3)
    adapted = candidate(assembled, "all", batch_norm="adapt")
    first, second = (one.run(adapted, 64, fold, 3) for fold in folds[:2])
    assert len({kept.loss, first.loss, second.loss}) == 3
    assert one.run(adapted, 64, folds[0], 3).loss == first.loss


@pytest.mark.slow
def test_auto_chooses_with_real_trainings(assembled: Workspace, tmp_path: Path) -> None:
    workspace = small.copied(assembled, tmp_path)
    params = small.small_params("auto", tune=TUNE | {"epochs": 3}, freeze={"budget": 0.7})
    plan = freeze(workspace, params)
    assert plan.measured
    verdict = Verdict.read(workspace.freezing_report / "verdict.json")
    assert verdict.decided_by == "race"
    assert (verdict.cut, verdict.strategy) == (plan.cut, plan.strategy)
    # Again, from what is kept of each trial: the same report, byte for byte.
    report = {path.name: path.read_bytes() for path in workspace.freezing_report.iterdir()}
    assert freeze(workspace, params) == plan
    again = {path.name: path.read_bytes() for path in workspace.freezing_report.iterdir()}
    assert again == report
