from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graftline.core.errors import MissingOutputError, TrackingError
from graftline.core.files import write_text
from graftline.core.workspace import Workspace
from graftline.evaluation import answers
from graftline.registry import tracking, trained_on
from graftline.registry.class_sets import foretold
from graftline.registry.promotion_report import line, markdown
from graftline.registry.promotions import Promotion
from graftline.registry.rivals import LeftOut
from graftline.steps import promote as promoting
from graftline.steps.promote import promote
from graftline.steps.register import register
from tests import contests, finished, histories
from tests.contests import ASKED, NAME, champion, params, run


@pytest.fixture(autouse=True)
def _bare_models(monkeypatch: pytest.MonkeyPatch) -> None:
    contests.save_bare(monkeypatch)


def test_the_first_one_is_promoted_with_a_receipt_everywhere(tracked: Workspace) -> None:
    promotion = run(tracked, "first", range(30))

    assert (promotion.promoted, promotion.champion_version) == (True, None)
    assert promotion.reason == "accuracy 97.00% reaches the floor of 90.00%"
    assert champion(tracked) == "1"
    assert Promotion.read(tracked.promotion) == promotion
    assert "graftline version 1 is the new champion" in (
        tracked.promotion.with_suffix(".md").read_text()
    )
    client = histories.client_of(tracked)
    tags = client.get_model_version(NAME, "1").tags
    assert Promotion.model_validate_json(tags["graftline.promotion"]) == promotion
    assert tags["graftline.promotion_state"] == "done"
    assert tags["graftline.verdict"] == "promoted as the first"
    logged = client.get_run(promotion.run_id).data
    assert logged.metrics["promotion/promoted"] == 1
    assert logged.metrics["promotion/challenger_accuracy"] == pytest.approx(0.97)
    listed = {one.path for one in client.list_artifacts(promotion.run_id, "promotion")}
    assert listed == {"promotion/promotion.json", "promotion/promotion.md"}


def test_the_first_one_must_reach_the_floor(tracked: Workspace) -> None:
    promotion = run(tracked, "first", range(101))

    assert not promotion.promoted
    assert promotion.reason == "accuracy 89.90% is below the floor of 90.00%"
    assert champion(tracked) is None
    assert Promotion.read(tracked.promotion) == promotion


def test_without_thresholds_nothing_is_promoted(tracked: Workspace) -> None:
    nothing = {"min_accuracy": None, "margin": None, "significance": None, "max_recall_drop": None}
    promotion = run(tracked, "first", range(0), ASKED.model_copy(update=nothing))

    assert not promotion.promoted
    assert "promote.min_accuracy is not set" in promotion.reason
    assert champion(tracked) is None


def test_one_that_is_not_worse_takes_the_place_on_stored_answers(tracked: Workspace) -> None:
    run(tracked, "first", range(30))
    promotion = run(tracked, "second", range(10, 32))

    assert (promotion.promoted, promotion.champion_version) == (True, "1")
    assert promotion.champion_answers == "stored"
    assert promotion.left_out == LeftOut(images=0, because="trained on")
    assert promotion.comparison is not None and promotion.comparison.paired is not None
    assert promotion.comparison.paired.only_challenger_right == 10
    assert promotion.comparison.paired.only_champion_right == 2
    assert champion(tracked) == "2"
    tags = histories.client_of(tracked).get_model_version(NAME, "2").tags
    assert tags["graftline.verdict"] == "promoted over version 1"


def test_one_that_is_worse_does_not(tracked: Workspace) -> None:
    run(tracked, "first", range(30))
    promotion = run(tracked, "second", range(60))

    assert not promotion.promoted
    assert "the challenger is significantly worse" in promotion.reason
    assert champion(tracked) == "1"
    # Again: nothing is decided anew, and nothing is written anew.
    before = tracked.promotion.read_bytes()
    again = run(tracked, "second", range(60))
    assert again == promotion.model_copy(update={"repeated": True})
    assert tracked.promotion.read_bytes() == before
    # With other thresholds it is.
    lax = ASKED.model_copy(update={"margin": -0.1})
    assert run(tracked, "second", range(60), lax).repeated is False


def test_a_class_that_falls_holds_it_back(tracked: Workspace) -> None:
    run(tracked, "first", range(0, 120, 2))
    wide = ASKED.model_copy(update={"margin": -0.1})
    promotion = run(tracked, "second", range(1, 110, 2), wide)

    # 55 of 500 images: 11 points.
    assert not promotion.promoted
    assert promotion.reason.startswith("the recall of a class surely falls by more than 5.00 point")
    assert "bright from 100.00% to 89.00%" in promotion.reason
    # 27 of 500 may be chance.
    assert run(tracked, "third", range(1, 54, 2), wide).promoted


def test_the_champion_again_is_nothing_to_do(tracked: Workspace) -> None:
    first = run(tracked, "first", range(30))
    again = run(tracked, "first", range(30))

    assert (again.decision, again.promoted, again.repeated) == ("unchanged", False, True)
    assert again.reason == "version 1 is the champion already"
    assert again.champion_now == "1"
    assert Promotion.read(tracked.promotion) == first


def test_other_test_images_have_the_champion_asked_again(tracked: Workspace) -> None:
    run(tracked, "first", range(30))
    finished.write_images(tracked, images=1200, wrong=24)
    promotion = run(tracked, "second", range(12), images=1200)

    assert promotion.champion_answers == "asked again"
    assert promotion.comparison is not None and promotion.comparison.paired is not None
    # The model itself errs on the 24 images that look like the other class.
    assert promotion.comparison.paired.champion_accuracy == pytest.approx(1 - 24 / 1200)
    assert promotion.promoted


def test_what_the_champion_was_trained_on_is_left_out(tracked: Workspace) -> None:
    contests.load(tracked, "old", trained=range(1000, 1100))
    run(tracked, "first", range(30))
    contests.load(tracked, "new", images=1200, trained=range(5000, 5100))
    promotion = run(tracked, "second", range(12), images=1200)

    assert promotion.left_out == LeftOut(images=100, because="trained on")
    assert promotion.comparison is not None and promotion.comparison.paired is not None
    assert promotion.comparison.images == 1200
    assert promotion.comparison.paired.images == 1100
    assert promotion.comparison.paired.only_champion_right == 12
    assert "100 test images are among them, and are left out" in (
        tracked.promotion.with_suffix(".md").read_text()
    )


@pytest.mark.slow
def test_of_an_older_champion_what_was_not_in_its_test_split_is_left_out(
    tracked: Workspace,
) -> None:
    first = run(tracked, "first", range(30))
    client = histories.client_of(tracked)
    client.delete_model_version_tag(NAME, "1", trained_on.TAG)
    contests.load(tracked, "new", images=1200)
    promotion = run(tracked, "second", range(30), images=1200)
    assert promotion.left_out == LeftOut(images=200, because="not in its test split")
    assert "may be among them, and are left out" in tracked.promotion.with_suffix(".md").read_text()

    # Where not even that is known, no image is left out, and the receipt says so.
    client.set_registered_model_alias(NAME, "champion", "1")
    client.set_tag(first.run_id, "graftline.weight_digest", "other")
    promotion = run(tracked, "third", range(31), images=1200)
    assert promotion.left_out == LeftOut(images=0, because="not known")
    assert "favour it" in tracked.promotion.with_suffix(".md").read_text()


def test_a_list_of_training_images_that_was_changed_is_not_believed(tracked: Workspace) -> None:
    first = run(tracked, "first", range(30))
    client = histories.client_of(tracked)
    place = Path(client.get_run(first.run_id).info.artifact_uri.removeprefix("file://"))
    np.save(place / "training" / trained_on.FILE, np.zeros(3, np.uint64))
    contests.load(tracked, "new", images=1200)
    promotion = run(tracked, "second", range(30), images=1200)
    assert promotion.left_out == LeftOut(images=200, because="not in its test split")


def test_what_the_challenger_was_trained_on_counts_for_nothing(tracked: Workspace) -> None:
    contests.load(tracked, "leaky", trained=range(50))
    promotion = run(tracked, "first", range(20, 70))

    assert promotion.trained_on == 50
    assert promotion.comparison is not None
    assert promotion.comparison.images == 950
    # Of the 50 mistakes 20 are on images that were not trained on.
    assert promotion.comparison.challenger_accuracy == pytest.approx(930 / 950)
    assert promotion.promoted

    contests.load(tracked, "all of it", trained=range(1000))
    promotion = run(tracked, "second", range(20))
    assert not promotion.promoted
    assert "each of the 1,000 test images is also among those" in promotion.reason


@pytest.mark.slow
def test_too_few_images_that_neither_knows_decide_nothing(tracked: Workspace) -> None:
    contests.load(tracked, "old", trained=range(1000, 2000))
    run(tracked, "first", range(30))
    contests.load(tracked, "new", images=1200, trained=range(902))
    promotion = run(tracked, "second", range(0), images=1200)

    # 0.99 to the power of 298 is 0.0500, of 299 it is 0.0495.
    assert not promotion.promoted
    assert promotion.reason == (
        "only 98 of 298 test images are left that neither was trained on, and a margin of -1.00 "
        "points at a significance of 0.05 needs 299"
    )
    contests.load(tracked, "none", images=1200, trained=range(1000))
    promotion = run(tracked, "second", range(0), images=1200)
    assert not promotion.promoted
    assert promotion.reason.startswith("none of the 1,200 test images is left that neither")


def test_one_of_the_same_data_must_not_be_worse(tracked: Workspace) -> None:
    run(tracked, "first", range(22))
    worse = run(tracked, "second", range(2, 26))

    assert (worse.promoted, worse.rule) == (False, "same data")
    assert worse.reason == (
        "both were trained on the same data, so that the challenger must not be worse: 97.60% "
        "against 97.80%"
    )
    # The same answers on new data are within the margin, and the first one stays the best.
    contests.load(tracked, "more")
    promotion = run(tracked, "third", range(2, 26))
    assert (promotion.promoted, promotion.rule, promotion.best_version) == (True, "new data", "1")
    # As good as the champion is not worse; the best one stays the best.
    equal = run(tracked, "fourth", range(1, 25))
    assert (equal.promoted, equal.rule, equal.best_version) == (True, "same data", "1")
    assert equal.best is not None and equal.best.version == "1"
    # As good as the best one is the best from then on.
    assert run(tracked, "fifth", range(22)).best_version == "5"


@pytest.mark.slow
def test_small_losses_on_new_data_do_not_add_up(tracked: Workspace) -> None:
    asked = ASKED.model_copy(update={"min_accuracy": 0.5, "margin": -0.03, "max_recall_drop": 1.0})
    draw = np.random.default_rng(0)
    wrong = 40
    run(tracked, "first", draw.permutation(1000)[:wrong], asked)
    decided = []
    for step in range(4):
        contests.load(tracked, f"data {step}", trained=range(2000, 2001 + step))
        promotion = run(tracked, f"weights {step}", draw.permutation(1000)[: wrong + 9], asked)
        decided.append(promotion)
        wrong += 9 * promotion.promoted

    assert wrong - 40 <= 30
    # 0.9 points below the champion each would pass; 1.8 below the best one do not.
    assert [one.promoted for one in decided[:2]] == [True, False]
    assert "version 1, the best champion so far" in decided[1].reason
    assert decided[1].best is not None and decided[1].best.version == "1"
    assert all(
        check.passed for check in decided[1].checks if "best champion so far" not in check.text
    )


@pytest.mark.slow
def test_a_best_champion_whose_files_are_lost_is_set_aside(tracked: Workspace) -> None:
    run(tracked, "first", range(22))
    contests.load(tracked, "more")
    assert run(tracked, "second", range(2, 26)).best_version == "1"
    lose_files(tracked, "1")
    contests.load(tracked, "still more")
    promotion = run(tracked, "third", range(4, 28))

    assert promotion.promoted
    assert promotion.best is not None and promotion.best.paired is None
    assert "version 1 are not those that were registered" in (promotion.best.set_aside or "")
    assert "not compared with" in tracked.promotion.with_suffix(".md").read_text()
    assert promotion.best_version == "3"


def test_one_that_always_names_the_frequent_class_is_no_champion(tracked: Workspace) -> None:
    labels = (np.arange(1000) % 200 == 7).astype(int)
    contests.load(tracked, "rare", labels=labels)
    promotion = run(tracked, "first", np.flatnonzero(labels), labels=labels)

    assert not promotion.promoted
    assert "accuracy 99.50% (50.00% with each class counting the same) is below" in promotion.reason
    assert "it is not surely better than always naming dark (99.50%)" in promotion.reason
    # All five of the rare ones: by chance one in 32.
    assert run(tracked, "second", range(0), labels=labels).promoted


OLD = """
{"promoted":true,"decision":"promoted","reason":"accuracy 97.00% reaches the floor of 90.00%",
"model_name":"graftline","challenger_version":"2","champion_version":"1","challenger_digest":"ab",
"champion_digest":"cd","comparison":{"images":10,"challenger_accuracy":0.97,"paired":{
"champion_accuracy":0.97,"difference":0.0,"difference_low":0.0,"difference_high":0.0,
"confidence":0.9,"only_challenger_right":0,"only_champion_right":0,"p_better":1.0,"p_worse":1.0},
"classes":{"a":{"images":10,"challenger":0.97,"champion":0.97}}},"checks":[],"thresholds":{
"min_accuracy":0.9,"margin":-0.01,"significance":0.05,"max_recall_drop":0.05,
"min_class_images":20},"test_digest":"ef","champion_answers":"stored","unseen_by_champion":3,
"run_id":"abc","who":"ann@laptop","command":"x","when":"2026-01-01","repeated":false}
"""


@pytest.mark.slow
def test_receipts_of_before_are_read_and_their_verdicts_decided_anew(tracked: Workspace) -> None:
    receipt = Promotion.model_validate_json(OLD)
    assert (receipt.champion_version, receipt.rules, receipt.best_version) == ("1", 1, None)
    assert "97.00%" in markdown(receipt) and "97.00%" in line(receipt)

    run(tracked, "first", range(30))
    kept = run(tracked, "second", range(60))
    old = kept.model_copy(update={"rules": 1})
    client = histories.client_of(tracked)
    client.set_model_version_tag(NAME, "2", "graftline.promotion", old.model_dump_json())
    assert not run(tracked, "second", range(60)).repeated


def test_stored_answers_of_other_weights_are_not_believed(tracked: Workspace) -> None:
    first = run(tracked, "first", range(30))
    histories.client_of(tracked).set_tag(first.run_id, "graftline.weight_digest", "other")
    promotion = run(tracked, "second", range(10, 32))

    assert promotion.champion_answers == "asked again"
    assert promotion.comparison is not None and promotion.comparison.paired is not None
    assert promotion.comparison.paired.champion_accuracy == 1.0


def test_other_classes_cannot_be_compared(
    tracked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tracked, "first", range(30))
    monkeypatch.setattr(finished, "CLASSES", ("dark", "glaring"))
    dataset = json.loads((tracked.loaded / "dataset.json").read_text())
    write_text(
        tracked.loaded / "dataset.json", json.dumps(dataset | {"classes": ["dark", "glaring"]})
    )
    finished.write_images(tracked)
    told = "(only the challenger: glaring; only the champion: bright)"
    assert told in str(foretold(tracked, NAME, finished.CLASSES)), "before the training"
    assert foretold(tracked, NAME, ("bright", "dark")) is None
    assert foretold(tracked, "another", finished.CLASSES) is None

    # The same weights too: they name other classes.
    for weights in ("second", "first"):
        promotion = run(tracked, weights, range(0))
        assert not promotion.promoted
        assert told in promotion.reason
        assert "--set register.model_name=NAME" in promotion.reason
        assert champion(tracked) == "1"


def test_the_evaluation_must_be_that_of_the_images_and_of_the_model(tracked: Workspace) -> None:
    finished.write_images(tracked, images=900)
    with pytest.raises(MissingOutputError, match="of other images"):
        run(tracked, "first", range(30))
    finished.write_images(tracked)
    wanted = params()
    run_id = tracking.open_run(tracked, wanted)
    registered = register(tracked, wanted, run_id)
    finished.train(tracked, "other")
    with pytest.raises(MissingOutputError, match="is not version 1"):
        promote(tracked, wanted, registered, run_id)


def lose_files(workspace: Workspace, version: str) -> None:
    uri = histories.client_of(workspace).get_model_version_download_uri(NAME, version)
    for path in Path(uri.removeprefix("file://")).rglob("model.tflite"):
        path.unlink()
    for path in (workspace.var / "models").rglob("model.tflite"):
        path.unlink()


def test_a_champion_whose_files_are_lost_is_told_or_replaced_by_its_equal(
    tracked: Workspace,
) -> None:
    run(tracked, "first", range(30))
    lose_files(tracked, "1")
    with pytest.raises(MissingOutputError, match="version 1 are not those"):
        run(tracked, "second", range(30))
    assert champion(tracked) == "1"
    promotion = run(tracked, "first", range(30))
    assert promotion.promoted and "whose files are lost" in promotion.reason
    assert champion(tracked) == "3"


def test_an_alias_that_somebody_else_has_moved_is_not_overrun(
    tracked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tracked, "first", range(30))
    run(tracked, "second", range(60))
    right_after = answers.read_answers

    def moved(path: Path) -> answers.Answers:
        histories.client_of(tracked).set_registered_model_alias(NAME, "champion", "2")
        return right_after(path)

    monkeypatch.setattr(answers, "read_answers", moved)
    with pytest.raises(TrackingError, match="is now version 2, and was version 1"):
        run(tracked, "third", range(30))
    assert champion(tracked) == "2"


KILLED = """
import os, sys
from pathlib import Path
from graftline.registry import tracking
from graftline.steps.promote import promote
from graftline.steps.register import Registered
from graftline.core.workspace import Workspace
from tests.contests import params
at, calls = int(sys.argv[1]), 0
def dying(function):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), 9)
        return function(*arguments, **options)
    return call
import graftline.steps.promote as module
for name in ("log_receipt", "tag_version", "move_champion"):
    setattr(tracking, name, dying(getattr(tracking, name)))
module._write_report = dying(module._write_report)
workspace = Workspace.here()
registered = Registered.read(workspace.var / "registered.json")
print(promote(workspace, params(), registered, registered.run_id).model_dump_json())
"""


def in_process(workspace: Workspace, at: int = 0) -> subprocess.Popen[str]:
    checkout = str(Path(__file__).resolve().parents[3])
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(at)],
        cwd=workspace.root,
        env={**os.environ, "PYTHONPATH": checkout},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def registered_second(workspace: Workspace) -> None:
    run(workspace, "first", range(30))
    finished.train(workspace, "second")
    right = np.ones(finished.TEST_IMAGES, bool)
    right[10:32] = False
    finished.write_predictions(workspace, right)
    wanted = params()
    register(workspace, wanted, tracking.open_run(workspace, wanted))


@pytest.mark.slow
def test_two_at_once_do_not_both_win(tracked: Workspace) -> None:
    registered_second(tracked)
    both = [in_process(tracked) for _ in range(2)]
    ended = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], ended
    said = [Promotion.model_validate_json(out.splitlines()[-1]) for out, _ in ended]

    assert sorted(one.decision for one in said) == ["promoted", "unchanged"]
    assert champion(tracked) == "2"
    [winner] = [one for one in said if one.promoted]
    assert Promotion.read(tracked.promotion) == winner
    assert winner.champion_version == "1"


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.parametrize("at", range(1, 6))
def test_one_that_was_killed_ends_the_same_when_started_again(tracked: Workspace, at: int) -> None:
    registered_second(tracked)
    killed = in_process(tracked, at)
    killed.communicate(timeout=120)
    assert killed.returncode == -9
    assert champion(tracked) == ("2" if at > 3 else "1")

    again = in_process(tracked)
    out, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    promotion = Promotion.model_validate_json(out.splitlines()[-1])
    assert champion(tracked) == "2"
    receipt = Promotion.read(tracked.promotion)
    assert (receipt.promoted, receipt.champion_version) == (True, "1")
    version = tracking.find_version(tracked, NAME, "2")
    assert version is not None and promoting.receipt_of(version) == receipt
    assert version.tags["graftline.promotion_state"] == "done"
    assert promotion.champion_now == "2"
