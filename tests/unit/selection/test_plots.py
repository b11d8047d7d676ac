"""The pictures say in their titles what was found, and are the same at every drawing."""

from __future__ import annotations

from pathlib import Path

import pytest

from graftline.evaluation.style import save
from graftline.selection.budget import make_schedule
from graftline.selection.candidates import make_candidate, make_candidates
from graftline.selection.data_regime import situation_of
from graftline.selection.decision import race_verdict
from graftline.selection.depths import Cuts
from graftline.selection.plots import depth_profile, race_chart, race_order
from graftline.selection.profile import Profile, make_profile
from graftline.selection.records import Verdict
from graftline.selection.successive_halving import Race, run_race
from tests.unit.selection.rivals import Scripted, costs, folds, mobile_net
from tests.unit.selection.test_profile import COUNT, FOLDS, LABELS, clouds, depth

Drawn = tuple[Profile, Race, Verdict, list[str]]
WINNER = "everything at block_13_expand_relu"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    names = ["block_12_add", "block_13_expand_relu", "out_relu"]
    depths = [depth(name, 10 * (at + 1)) for at, name in enumerate(names)]
    features = [clouds(1.0), clouds(4.0), clouds(1.5)]
    profile = make_profile(depths, features, LABELS, FOLDS, 0)
    candidates = make_candidates(mobile_net(), Cuts(*[names[1]] * 4))
    parts = folds(400, 1000)
    schedule = make_schedule(candidates, parts, costs(), 10**15)
    assert schedule is not None
    folder = tmp_path_factory.mktemp("race")
    race = run_race(candidates, parts, schedule, Scripted({WINNER: 0.9}), folder, 0)
    situation = situation_of(profile, LABELS, COUNT, 3)
    verdict = race_verdict(race, profile, situation, candidates[0], 10**15)
    order = race_order({one.name: one.cost for one in candidates})
    return profile, race, verdict, order


def test_titles_say_what_was_found(drawn: Drawn) -> None:
    profile, race, verdict, order = drawn
    title = depth_profile(profile, verdict).texts[0].get_text()
    assert title.startswith("Frozen features are best at block_13_expand_relu")
    figure = race_chart(race, order, verdict)
    assert figure.texts[0].get_text() == f"E{WINNER[1:]} wins with 90.0 %"
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0] == "head only at block_13_expand_relu", "the cheapest is at the bottom"


def test_the_sentence_holds_the_numbers(drawn: Drawn) -> None:
    _, _, verdict, _ = drawn
    assert "small and different" in verdict.sentence
    assert "80 training images per class" in verdict.sentence
    assert f"{WINNER}, 90.0 %" in verdict.sentence
    assert "the textbook's choice reached 50.0 %" in verdict.sentence


def test_the_sentence_says_that_the_textbooks_choice_was_not_raced(drawn: Drawn) -> None:
    profile, race, _, _ = drawn
    rule = make_candidate(mobile_net(), "all", "out_relu")
    verdict = race_verdict(race, profile, situation_of(profile, LABELS, COUNT, 3), rule, 10**15)
    assert verdict.textbook_accuracy is None
    assert verdict.sentence.endswith("; the budget did not pay for the textbook's choice")


def test_the_same_choice_gives_the_same_bytes(drawn: Drawn, tmp_path: Path) -> None:
    profile, race, verdict, order = drawn
    for name in ("a.png", "b.png"):
        save(race_chart(race, order, verdict), tmp_path / f"race-{name}")
        save(depth_profile(profile, verdict), tmp_path / f"depth-{name}")
    for kind in ("race", "depth"):
        first, second = (tmp_path / f"{kind}-{name}" for name in ("a.png", "b.png"))
        assert first.read_bytes() == second.read_bytes()
