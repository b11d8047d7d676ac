"""``freeze.strategy: auto`` on a real backbone, tiny and random; only the trainer is scripted."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graftline.core.params import Params
from graftline.core.records import Assembled, FreezePlan
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.evaluation.paired import p_higher, p_worse
from graftline.registry.tracking import run_contents
from graftline.selection import choice as choice_module
from graftline.selection import features, trial
from graftline.selection import trainer as trainer_module
from graftline.selection.choice import choose
from graftline.selection.depths import choose_depths
from graftline.selection.records import Verdict
from graftline.selection.speeds import DepthSpeeds
from graftline.steps.freeze import choice_settings, freeze
from tests.model import small
from tests.model.racing import invented_speeds
from tests.unit.selection.rivals import Scripted

FILES = {
    "XXH128SUMS",
    "table.md",
    "layers.csv",
    "profile.csv",
    "learning_curve.csv",
    "profile_answers.csv",
    "candidates.csv",
    "race.csv",
    "race_answers.csv",
    "verdict.json",
    "verdict.md",
    "depth_profile.png",
    "race.png",
}


def params(budget: Any = 2.0) -> Params:
    made = small.small_params("auto")
    return made.model_copy(update={"freeze": made.freeze.model_copy(update={"budget": budget})})


class Free(Scripted):
    """A trainer to whom all that trains more than the head is better."""

    def run(self, candidate: Any, images_shown: int, fold: Any, seed: int) -> trial.Trial:
        self._shares[candidate.name] = 0.9 if candidate.plan.trainable else 0.6
        return super().run(candidate, images_shown, fold, seed)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Free:
    trainer = Free({})
    monkeypatch.setattr(trainer_module, "make_trainer", lambda workspace, settings: trainer)
    return trainer


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds need a conversion for each depth, and nothing reads them: one test measures them."""
    monkeypatch.setattr(choice_module, "images_per_second", invented_speeds)


@pytest.fixture
def workspace(assembled: Workspace, tmp_path: Path) -> Workspace:
    return small.copied(assembled, tmp_path / "mine")


def report(workspace: Workspace) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in workspace.freezing_report.iterdir()}


def rows(workspace: Workspace, name: str) -> list[dict[str, str]]:
    with (workspace.freezing_report / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True)
class Chosen:
    """A workspace in which ``freeze`` has chosen, and the images that it looked at."""

    workspace: Workspace
    seen: set[int]


@pytest.fixture(scope="module")
def chosen(assembled: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Chosen:
    workspace = small.copied(assembled, tmp_path_factory.mktemp("chosen"))
    batch, run, seen = PackedImages.batch, Free.run, set[int]()

    def watched(self: PackedImages, indices: Any) -> Any:
        seen.update(np.asarray(indices).tolist())
        return batch(self, indices)

    def watching(self: Free, candidate: Any, images_shown: int, fold: Any, seed: int) -> Any:
        seen.update(fold.train.tolist(), fold.held_out.tolist())
        return run(self, candidate, images_shown, fold, seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module, "make_trainer", lambda workspace, settings: Free({}))
        patch.setattr(choice_module, "images_per_second", invented_speeds)
        patch.setattr(PackedImages, "batch", watched)
        patch.setattr(Free, "run", watching)
        freeze(workspace, params())
    return Chosen(workspace, seen)


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes(
    chosen: Chosen, workspace: Workspace, scripted: Free
) -> None:
    plan = freeze(workspace, params())
    assert set(report(workspace)) == FILES
    assert plan.measured
    assert plan.trainable, "whatever trains more than the head is better here"
    other = chosen.workspace
    assert report(other) == report(workspace)
    assert other.freeze_plan.read_bytes() == workspace.freeze_plan.read_bytes()
    _every_number_follows_from_the_files(workspace)
    _history_gets_the_verdict(workspace)
    _what_is_finished_is_not_done_again(workspace, scripted)


def _every_number_follows_from_the_files(workspace: Workspace) -> None:
    answers = rows(workspace, "profile_answers.csv")
    labels = np.array([row["label"] for row in answers])
    for score in rows(workspace, "profile.csv"):
        given = np.array([row[score["layer"]] for row in answers])
        assert int(score["right"]) == (given == labels).sum()
    raced = rows(workspace, "race_answers.csv")

    def of(result: dict[str, str]) -> trial.Trial:
        name = f"{result['rung']}/{result['candidate']}"
        return trial.Trial(
            np.array([row[name] == "1" for row in raced]),
            np.array([float(row[f"{name}/loss"]) for row in raced]),
        )

    results = rows(workspace, "race.csv")
    for result in results:
        of_round = [one for one in results if one["rung"] == result["rung"]]
        best = max(of_round, key=lambda one: float(one["p_value"]) + int(one["right"]))
        given = of(result)
        assert int(result["right"]) == given.right.sum()
        assert float(result["loss"]) == pytest.approx(given.loss)
        least = of(best)
        assert float(result["p_value"]) == pytest.approx(p_worse(given.right, least.right))
        expected = p_higher(given.losses, least.losses)
        assert float(result["loss_p_value"]) == pytest.approx(expected)
    text = (workspace.freezing_report / "verdict.md").read_text(encoding="utf-8")
    # Of 144 images that train or validate a fold holds out 29, and 11 of the rest validate.
    assert "Each head was trained for all 6 epochs of `train`" in text
    assert "to its end it would show 1,040." in text
    verdict = json.loads((workspace.freezing_report / "verdict.json").read_text())
    assert verdict["spent"] == sum(int(result["cost"]) for result in results)
    assert verdict["spent"] <= verdict["budget"]


def _history_gets_the_verdict(workspace: Workspace) -> None:
    outputs = run_contents.read_outputs(workspace)
    assert outputs.verdict == Verdict.read(workspace.freezing_report / "verdict.json")
    assert outputs.verdict is not None
    metrics = run_contents.verdict_metrics(outputs.verdict)
    assert metrics["freezing/accuracy"] == outputs.verdict.accuracy
    tags = run_contents.outcome_tags(workspace, outputs)
    assert tags["graftline.freezing.situation"] == outputs.verdict.situation
    names = {path.name for path, _ in run_contents.files(workspace, evaluated=False)}
    assert names >= FILES


def _what_is_finished_is_not_done_again(workspace: Workspace, scripted: Free) -> None:
    before, asked = report(workspace), len(scripted.asked)
    freeze(workspace, params())
    assert len(scripted.asked) == asked
    assert report(workspace) == before


@pytest.mark.slow
def test_a_killed_profile_goes_on(
    workspace: Workspace, assembled: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = params()
    settings = choice_settings(made)
    monkeypatch.setattr(features, "_PIECE", 32)
    run, done = features.outputs_in_order, []

    def interrupted(*arguments: Any) -> Any:
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt
        return run(*arguments)

    monkeypatch.setattr(features, "outputs_in_order", interrupted)
    with pytest.raises(KeyboardInterrupt):
        choose(workspace, settings, Free({}))
    choice = choose(workspace, settings, Free({}))
    pieces = -(-len(choice.sample) // 32)
    assert len(done) == pieces + 1, "the two pieces that were finished stay"
    monkeypatch.undo()
    undisturbed = choose(small.copied(assembled, tmp_path / "other"), settings, Free({}))
    assert choice.verdict == undisturbed.verdict
    assert (choice.profile.answers == undisturbed.profile.answers).all()


@pytest.mark.slow
def test_a_budget_too_small_for_a_race_leaves_the_choice_to_the_profile(
    workspace: Workspace, scripted: Free
) -> None:
    plan = freeze(workspace, params(0.0001))
    assert not scripted.asked
    assert set(report(workspace)) == FILES - {"race.csv", "race_answers.csv", "race.png"}
    verdict = Verdict.read(workspace.freezing_report / "verdict.json")
    assert verdict.decided_by == "profile"
    assert "pays for no race" in plan.reason
    assert plan == FreezePlan.read(workspace.freeze_plan)
    assert plan.strategy == "all"
    speeds = DepthSpeeds.find_in(workspace)
    assert speeds is not None
    assert set(speeds.by_layer) == {row["layer"] for row in rows(workspace, "profile.csv")}


@pytest.mark.slow
def test_speeds_are_measured_and_interpolated(workspace: Workspace, tmp_path: Path) -> None:
    assembled = Assembled.read(workspace.assembled / "assembled.json")
    depths = choose_depths(assembled)
    images = PackedImages.open(workspace.preprocessed)
    measured = features.images_per_second(
        workspace, assembled, [depths[-1]], images.indices("train"), tmp_path
    )
    assert measured[depths[-1].layer] > 0
    speeds = DepthSpeeds.of("", depths, {depths[0].layer: 200.0, depths[-1].layer: 100.0}).by_layer
    assert [layer for layer, speed in speeds.items() if speed.measured] == [
        depths[0].layer,
        depths[-1].layer,
    ]
    values = [speed.images_per_s for speed in speeds.values()]
    assert values == sorted(values, reverse=True)


def test_the_test_split_is_not_read(chosen: Chosen) -> None:
    images = PackedImages.open(chosen.workspace.preprocessed)
    assert chosen.seen
    assert not chosen.seen & set(images.indices("test").tolist())
