from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graftline import answers, tracking
from graftline import promote as promoting
from graftline.errors import MissingOutputError, TrackingError
from graftline.params import PromoteParams
from graftline.promote import Promotion, promote
from graftline.register import register
from graftline.storage import write_text
from graftline.workspace import Workspace
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
    promotion = run(tracked, "first", range(0), PromoteParams())

    assert not promotion.promoted
    assert "promote.min_accuracy is not set" in promotion.reason
    assert champion(tracked) is None


def test_one_that_is_not_worse_takes_the_place_on_stored_answers(tracked: Workspace) -> None:
    run(tracked, "first", range(30))
    promotion = run(tracked, "second", range(10, 32))

    assert (promotion.promoted, promotion.champion_version) == (True, "1")
    assert (promotion.champion_answers, promotion.unseen_by_champion) == ("stored", 0)
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
    run(tracked, "first", range(0, 60, 2))
    promotion = run(tracked, "second", range(1, 54, 2))

    assert not promotion.promoted
    assert promotion.reason.startswith("the recall of a class falls by more than 5.00 points")
    assert "bright from 100.00% to 94.60%" in promotion.reason


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
    assert promotion.unseen_by_champion == 200
    assert promotion.comparison is not None and promotion.comparison.paired is not None
    # The model itself errs on the 24 images that look like the other class.
    assert promotion.comparison.paired.champion_accuracy == pytest.approx(1 - 24 / 1200)
    assert promotion.promoted


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
    promotion = run(tracked, "second", range(0))

    assert not promotion.promoted
    assert "only the challenger: glaring; only the champion: bright" in promotion.reason
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
from graftline import tracking
from graftline.promote import promote
from graftline.register import Registered
from graftline.workspace import Workspace
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
import graftline.promote as module
for name in ("log_receipt", "tag_version", "move_champion"):
    setattr(tracking, name, dying(getattr(tracking, name)))
module._write_report = dying(module._write_report)
workspace = Workspace.here()
registered = Registered.read(workspace.var / "registered.json")
print(promote(workspace, params(), registered, registered.run_id).model_dump_json())
"""


def in_process(workspace: Workspace, at: int = 0) -> subprocess.Popen[str]:
    checkout = str(Path(__file__).resolve().parents[2])
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
