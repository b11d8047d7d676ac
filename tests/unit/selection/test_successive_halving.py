"""Budget, rounds, tests between answers to the same images, and going on after a kill."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel

from graftline.core.params import FreezeParams, LastBlocks, Seconds, TrainParams, TuneParams
from graftline.core.records import Assembled
from graftline.evaluation.paired import p_higher, p_worse
from graftline.selection.budget import in_multiply_adds, make_schedule
from graftline.selection.candidates import Candidate, make_candidate, make_candidates
from graftline.selection.depths import Cuts
from graftline.selection.folds import Fold
from graftline.selection.successive_halving import Race, best_of, cheapest, run_race, survivors
from graftline.selection.throughput import Pace, recorded_pace
from graftline.selection.trial import Trial
from tests.unit.selection.rivals import Scripted, costs, folds, mobile_net

CUT, LATER, LAST = "block_13_expand_relu", "block_15_add", "out_relu"
TUNE = TuneParams(epochs=10, batch_size=32)
COSTS = costs(TUNE)
ONE = Cuts(CUT, CUT, CUT, CUT)
HEAD, EVERYTHING = f"head only at {CUT}", f"everything at {CUT}"


@pytest.fixture(scope="module")
def assembled() -> Assembled:
    return mobile_net()


@pytest.fixture(scope="module")
def candidates(assembled: Assembled) -> tuple[Candidate, ...]:
    return make_candidates(assembled, ONE)


def raced(
    candidates: tuple[Candidate, ...],
    shares: dict[str, float],
    folder: Path,
    held_out: int = 1000,
    behind: dict[str, float] | None = None,
) -> tuple[Race, Scripted]:
    trainer = Scripted(shares, behind=behind)
    parts = folds(4000, held_out)
    schedule = make_schedule(candidates, parts, COSTS, 10**15)
    assert schedule is not None
    return run_race(candidates, parts, schedule, trainer, folder, 0), trainer


def test_the_candidates_are_those_of_the_issue(candidates: tuple[Candidate, ...]) -> None:
    names = [one.name for one in candidates]
    assert names[:4] == [HEAD, EVERYTHING, f"last 5 blocks at {CUT}", f"last 9 blocks at {CUT}"]
    assert sum(name.startswith("last") and name.endswith(CUT) for name in names) == 3
    assert any(name.startswith("first") for name in names)
    assert f"everything at {LAST}" in names
    assert len(set(names)) == len(names)


def test_what_is_tuned_is_cut_where_tuning_pays(assembled: Assembled) -> None:
    names = [one.name for one in make_candidates(assembled, Cuts(CUT, LATER, LATER, CUT))]
    assert names[:3] == [HEAD, f"everything at {LATER}", f"last 6 blocks at {LATER}"]
    assert f"head only at {LATER}" not in names
    assert EVERYTHING in names[3:], "the frozen cut, tuned, is among those that a large budget pays"


def test_many_images_may_use_a_later_cut(assembled: Assembled) -> None:
    early = "block_6_expand_relu"
    names = [one.name for one in make_candidates(assembled, Cuts(early, early, CUT, early))]
    assert names[:3] == [f"head only at {early}", f"everything at {early}", EVERYTHING]


def test_adapted_statistics_are_raced_where_the_parameters_allow(assembled: Assembled) -> None:
    adapted = make_candidates(assembled, ONE, "adapt")
    assert {one.plan.batch_norm for one in adapted} == {"keep", "adapt"}


def test_what_is_cached_is_paid_once(assembled: Assembled) -> None:
    head = make_candidate(assembled, "all", CUT)
    everything = make_candidate(assembled, "none", CUT)
    backbone = sum(layer.multiply_adds for layer in assembled.up_to(CUT))
    assert head.once_cost == backbone
    assert everything.once_cost == 0
    assert 2 * backbone < everything.step_cost
    assert head.training_cost(10, 100) == 10 * backbone + 100 * head.step_cost


def test_an_exact_test_of_the_images_that_differ() -> None:
    best = np.array([True] * 90 + [False] * 10)
    worse = best.copy()
    worse[:8] = False
    worse[90] = True
    assert p_worse(worse, best) == binomtest(8, 9, 0.5, alternative="greater").pvalue
    assert p_worse(best, best) == 1


def test_losses_tell_apart_what_answers_do_not() -> None:
    chance = np.random.default_rng(0)
    right = np.ones(200, bool)
    best = Trial(right, chance.exponential(0.1, 200))
    duller = Trial(right, best.losses + chance.normal(0.02, 0.1, 200))
    assert p_worse(duller.right, best.right) == 1
    expected = ttest_rel(duller.losses, best.losses, alternative="greater").pvalue
    assert p_higher(duller.losses, best.losses) == pytest.approx(expected)
    assert p_higher(best.losses, best.losses) == 1
    assert p_higher(best.losses + 1, best.losses) == 0


def test_a_better_one_wins(candidates: tuple[Candidate, ...], tmp_path: Path) -> None:
    race, _ = raced(candidates, {EVERYTHING: 0.9}, tmp_path)
    assert race.winner.name == race.best.name == EVERYTHING
    assert [one.p_value for one in race.results if one.candidate == HEAD][-1] < 0.001


def test_the_cheapest_of_those_as_good_wins(
    candidates: tuple[Candidate, ...], tmp_path: Path
) -> None:
    race, _ = raced(candidates, {EVERYTHING: 0.9, HEAD: 0.9}, tmp_path)
    assert race.winner.name == HEAD


def test_the_cheapest_is_not_lost_for_being_a_little_behind(
    candidates: tuple[Candidate, ...], tmp_path: Path
) -> None:
    # All others lose a little less, by chance: no test tells them apart.
    shares = {one.name: 0.9 for one in candidates}
    race, _ = raced(candidates, shares, tmp_path, behind={HEAD: 0.0001})
    assert race.best.name != HEAD
    assert race.winner.name == HEAD


def test_each_round_has_half_as_many_and_shows_twice_as_much(
    candidates: tuple[Candidate, ...], tmp_path: Path
) -> None:
    race, _ = raced(candidates, {}, tmp_path)
    counts: dict[int, int] = {}
    shown: dict[int, int] = {}
    for result in race.results:
        counts[result.rung] = counts.get(result.rung, 0) + 1
        shown[result.rung] = result.images_shown
    assert list(counts.values()) == [8, 4, 2]
    assert shown[2] == 2 * shown[1]
    assert shown[3] == 2 * shown[2]


@pytest.mark.parametrize("share", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("number", [1, 5])
def test_a_race_costs_no_more_than_its_budget(
    candidates: tuple[Candidate, ...],
    assembled: Assembled,
    share: float,
    number: int,
    tmp_path: Path,
) -> None:
    everything = make_candidate(assembled, "none", LAST)
    parts = folds(4000, 1000, number)
    budget = in_multiply_adds(FreezeParams(budget=share), COSTS, everything, 4000, None)
    assert budget is not None
    schedule = make_schedule(candidates, parts, COSTS, budget)
    assert schedule is not None
    race = run_race(candidates, parts, schedule, Scripted({}), tmp_path, 0)
    spent = sum(result.cost for result in race.results)
    assert spent <= schedule.cost <= budget


def test_a_budget_that_shows_no_one_all_images_is_not_spread_over_many(
    candidates: tuple[Candidate, ...],
) -> None:
    parts = folds(4000, 1000)
    everything = candidates[1]
    once = everything.training_cost(4000, 4000)
    # 400 images validate, 1 000 are answered; both begin with the same head.
    answering = everything.inference_cost * 1400 + everything.head_cost * 1000
    budget = COSTS.of_head(everything, parts) + once // 2 + answering
    schedule = make_schedule(candidates, parts, COSTS, budget)
    assert schedule is not None
    assert (schedule.candidates, schedule.folds) == (2, 1)
    assert [rung.images_shown for rung in schedule.rungs] == [pytest.approx(2000, abs=1)]


def test_a_choice_is_always_between_tuning_and_not(assembled: Assembled) -> None:
    rule = make_candidate(assembled, "all", LAST)
    names = [one.name for one in make_candidates(assembled, ONE, also=rule)]
    assert names[:3] == [HEAD, EVERYTHING, rule.name]


def test_a_budget_may_be_too_small_for_any_race(candidates: tuple[Candidate, ...]) -> None:
    assert make_schedule(candidates, folds(4000, 1000), COSTS, 10**6) is None


def test_without_a_limit_all_are_trained_to_their_end(candidates: tuple[Candidate, ...]) -> None:
    parts = folds(400, 100, 5)
    schedule = make_schedule(candidates, parts, COSTS, None)
    assert schedule is not None
    assert [rung.images_shown for rung in schedule.rungs] == [4000]
    assert (schedule.folds, schedule.candidates) == (5, len(candidates))


def test_seconds_are_measured_once(assembled: Assembled, tmp_path: Path) -> None:
    pair = [make_candidate(assembled, strategy, LAST) for strategy in ("all", "none")]
    path, fold, trainer = tmp_path / "pace.json", folds(4000, 500)[0], Scripted({})
    settings = COSTS.settings
    pace = recorded_pace(path, trainer, *pair, fold, settings, time.monotonic() - 5)
    assert pace.multiply_adds_per_s > 0
    assert pace.head_image_s > 0
    assert pace.before_race_s >= 5
    # A head each in two folds of few images, and the same tuning twice.
    assert trainer.asked == [
        (f"head only at {LAST}", 1, -1),
        (f"head only at {LAST}", 1, -2),
        (f"everything at {LAST}", 256, -2),
        (f"everything at {LAST}", 256, -2),
    ]
    assert recorded_pace(path, trainer, *pair, fold, settings, 0.0) == pace
    assert len(trainer.asked) == 4


@pytest.mark.parametrize(("epochs", "images"), [(10, 800), (1000, 32), (2, 4000)])
def test_measuring_takes_few_steps_whatever_the_parameters(
    epochs: int, images: int, assembled: Assembled, tmp_path: Path
) -> None:
    pair = [make_candidate(assembled, strategy, LAST) for strategy in ("all", "none")]
    seen: list[Fold] = []

    class Watched(Scripted):
        def run(self, candidate: Candidate, images_shown: int, fold: Fold, seed: int) -> Trial:
            seen.append(fold)
            return super().run(candidate, images_shown, fold, seed)

    settings = costs(TUNE, TrainParams(epochs=epochs, batch_size=32)).settings
    recorded_pace(tmp_path / "pace.json", Watched({}), *pair, folds(4000, 500)[0], settings, 0.0)
    assert {len(fold.train) for fold in seen} == {images}


def test_of_a_budget_in_seconds_the_race_gets_what_is_left(
    assembled: Assembled, candidates: tuple[Candidate, ...], tmp_path: Path
) -> None:
    everything = make_candidate(assembled, "none", LAST)
    pace = Pace(multiply_adds_per_s=1e9, head_image_s=1e-3, start_s=2.0, before_race_s=20.0)
    counted = pace.costs(COSTS.settings)
    freeze = FreezeParams(budget=Seconds(seconds=220))
    budget = in_multiply_adds(freeze, counted, everything, 100, pace)
    assert budget == 200 * 10**9
    slow = pace.model_copy(update={"before_race_s": 221.0})
    assert in_multiply_adds(freeze, counted, everything, 100, slow) == 0
    parts = folds(100, 50)
    schedule = make_schedule(candidates, parts, counted, budget, pace.start_cost())
    assert schedule is not None
    race = run_race(candidates, parts, schedule, Scripted({}), tmp_path, 0)
    spent = sum(result.cost for result in race.results)
    assert spent + len(race.results) * pace.start_cost() <= schedule.cost <= budget


def test_heads_that_take_all_the_seconds_leave_none_for_a_race(
    candidates: tuple[Candidate, ...],
) -> None:
    pace = Pace(multiply_adds_per_s=1e9, head_image_s=1e-3, start_s=2.0, before_race_s=20.0)
    # Two heads of 100 000 images shown take 200 seconds.
    long = costs(TUNE, TrainParams(epochs=1000)).settings
    budget = pace.affordable(220)
    two_cuts = [candidates[0], next(one for one in candidates if one.plan.cut == LAST)]
    assert make_schedule(two_cuts, folds(100, 50), pace.costs(long), budget) is None


def test_a_head_costs_what_its_training_takes(assembled: Assembled) -> None:
    tuned = make_candidate(assembled, "none", CUT)
    backbone = sum(layer.multiply_adds for layer in assembled.up_to(CUT))
    head = tuned.inference_cost - backbone
    of_default = costs(TUNE, TrainParams(epochs=7))
    # 100 images train, 10 validate and 50 are held out.
    whole = 160 * backbone + 7 * (100 * 3 * head + 10 * head)
    assert of_default.of_head(tuned, folds(100, 50)) == whole
    turned = costs(TUNE, TrainParams(epochs=7), views=4, rotation_degrees=5)
    assert turned.of_head(tuned, folds(100, 50)) == whole + 3 * 160 * backbone


def test_views_of_cached_outputs_are_paid(assembled: Assembled) -> None:
    last = make_candidate(assembled, LastBlocks(last_blocks=5), CUT)
    one, four = costs(TUNE), costs(TUNE, views=4, rotation_degrees=5)
    (fold,) = folds(100, 50)
    further = four.of_trial(last, 1000, fold) - one.of_trial(last, 1000, fold)
    assert further == 3 * 100 * last.once_cost
    # What is shown once in an epoch or two needs no more views than that.
    short = four.of_trial(last, 200, fold) - one.of_trial(last, 200, fold)
    assert short == 100 * last.once_cost


class Killed(Exception):
    """What ends a race early here."""


def test_a_killed_race_goes_on_and_ends_the_same(
    candidates: tuple[Candidate, ...], tmp_path: Path
) -> None:
    whole, trainer = raced(candidates, {EVERYTHING: 0.8}, tmp_path / "whole")
    parts = folds(4000, 1000)
    schedule = make_schedule(candidates, parts, COSTS, 10**15)
    assert schedule is not None
    done = 0

    def stop(_: str) -> None:
        nonlocal done
        done += 1
        if done == 5:
            raise Killed

    with pytest.raises(Killed):
        first = Scripted({EVERYTHING: 0.8})
        run_race(candidates, parts, schedule, first, tmp_path / "killed", 0, stop)
    second = Scripted({EVERYTHING: 0.8})
    again = run_race(candidates, parts, schedule, second, tmp_path / "killed", 0)
    assert len(first.asked) == 5
    assert len(first.asked) + len(second.asked) == len(trainer.asked)
    assert again.results == whole.results
    assert again.winner == whole.winner


def test_of_those_that_cost_about_the_same_the_better_wins(assembled: Assembled) -> None:
    dear = make_candidate(assembled, "none", CUT)
    twins = [
        dear.model_copy(update={"name": name, "step_cost": round(dear.step_cost * share)})
        for name, share in (("cheap", 1.0), ("as cheap", 1.2), ("dear", 1.3))
    ]
    right = {
        "cheap": np.array([True, False, False]),
        "as cheap": np.array([True, True, False]),
        "dear": np.array([True, True, True]),
    }
    found = {name: Trial(answers, np.zeros(3)) for name, answers in right.items()}
    assert cheapest(twins, found).name == "as cheap"


def test_the_lowest_loss_is_the_best_whatever_one_answer_says(assembled: Assembled) -> None:
    twins = [make_candidate(assembled, strategy, CUT) for strategy in ("all", "none")]
    chance = np.random.default_rng(0)
    losses = chance.exponential(0.2, 500)
    right = chance.random(500) < 0.9
    one_more = right.copy()
    one_more[np.flatnonzero(~right)[0]] = True
    found = {HEAD: Trial(one_more, losses), EVERYTHING: Trial(right, losses - 0.01)}
    assert best_of(twins, found).name == EVERYTHING
    assert [one.name for one in survivors(twins, found, 1)] == [EVERYTHING]
    found[HEAD] = Trial(one_more, losses - 0.01)
    assert best_of(twins, found).name == HEAD, "of equal losses the answers decide"
