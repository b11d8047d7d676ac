"""What the benchmarks make of their measurements."""

from __future__ import annotations

import pytest

from benchmarks import report
from benchmarks.extraction import share_of_peak, verdicts
from benchmarks.memory import share_within
from benchmarks.orchestration import (
    CLOSING,
    DVC,
    IMPORT,
    PREFECT,
    SERVER,
    STAGE_START,
    START,
    WORK,
    StageMarks,
    orchestration_s,
    pieces,
)
from benchmarks.report import Spread, Table
from benchmarks.runners import GRAFTLINE, KERAS
from benchmarks.tutorial import Pace, scaled_s
from graftline.core.stages import STAGES
from graftline.core.timings import Span


def test_ratios_are_taken_measurement_by_measurement() -> None:
    assert report.ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="longer"):
        report.ratios([1.0], [1.0, 2.0])


def test_a_spread_is_median_lowest_highest() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert Spread.of([3.0, 1.0, 2.0]).text(1) == "2.0 (1.0 to 3.0)"


def test_a_table_as_markdown() -> None:
    table = Table("What", ("a", "b"), [("x", "1")])
    assert table.markdown() == "What:\n\n| a | b |\n| --- | --: |\n| x | 1 |"


def test_only_what_lies_between_the_marks_is_replaced() -> None:
    document = "before\n<!-- bench: a -->\nold\n<!-- end: a -->\nafter"
    once = report.replaced(document, "a", r"new \1")
    assert once == "before\n<!-- bench: a -->\nnew \\1\n<!-- end: a -->\nafter"
    assert report.replaced(once, "a", r"new \1") == once
    with pytest.raises(ValueError, match="no place for b"):
        report.replaced(document, "b", "new")


def test_the_share_of_the_peak_counts_a_multiply_add_twice() -> None:
    assert share_of_peak(500_000_000, 100.0, 200.0) == pytest.approx(0.5)


def test_the_fastest_of_the_others_is_found() -> None:
    rates = {GRAFTLINE: [10.0, 12.0], KERAS: [2.0, 4.0], "slow": [1.0, 1.0], "fast": [10.0, 8.0]}
    size = {"runners": [{"name": name, "images_per_s": found} for name, found in rates.items()]}
    found = verdicts(size)
    assert list(found) == [KERAS, "fast"]
    assert found["fast"] == Spread.of([1.0, 1.5])
    assert found[KERAS] == Spread.of([5.0, 3.0])


def test_the_worst_comparison_counts_whatever_the_rates() -> None:
    # A busy third round makes `steady` the one of higher median rate; round by round `even` wins.
    rates = {
        GRAFTLINE: [10.0, 10.0, 2.0],
        KERAS: [1.0, 1.0, 1.0],
        "steady": [9.0, 9.0, 9.0],
        "even": [11.0, 8.0, 2.5],
    }
    size = {"runners": [{"name": name, "images_per_s": found} for name, found in rates.items()]}
    assert list(verdicts(size)) == [KERAS, "even"]


def test_ten_epochs_are_scaled_with_their_tests() -> None:
    # 60 000 / 32 = 1875 steps and 10 000 / 32 = 312.5, so 313 batches, ten times.
    assert scaled_s(Pace(0.01, 0.001), 60_000, 10_000) == pytest.approx(187.5 + 3.13)


@pytest.mark.parametrize(
    ("others", "share"),
    [([], 0.0), ([(0.0, 10.0)], 1.0), ([(1.0, 2.0), (1.5, 3.0)], 0.5), ([(4.0, 9.0)], 0.0)],
)
def test_the_share_of_time_within_others(others: list[tuple[float, float]], share: float) -> None:
    assert share_within([(0.0, 1.0), (1.0, 4.0)], others) == pytest.approx(share)


def spans() -> list[Span]:
    steps = [Span(f"step {name}", 20.0 + 10 * at, 29.0 + 10 * at) for at, name in enumerate(STAGES)]
    end = steps[-1].end_s
    return [
        Span("import", 2.0, 5.0),
        Span("server", 5.0, 19.0),
        *steps,
        Span("flow", 19.0, end + 2),
    ]


def test_the_pieces_of_a_run_add_up_to_it() -> None:
    stages = {"load": StageMarks(21.0, 22.0, 28.0)}
    ended_s = spans()[-1].end_s + 3
    found = pieces(spans(), stages, began_s=0.5, ended_s=ended_s)
    assert sum(found.values()) == pytest.approx(ended_s - 0.5)
    assert found[START] == 1.5
    assert found[IMPORT] == 3.0
    assert found[SERVER] == 14.0
    assert (found[DVC], found[STAGE_START], found[WORK]) == (2.0, 1.0, 6.0)
    # The gaps before the steps, and the steps without a stage that ran.
    others = len(STAGES) - 1
    assert found[PREFECT] == 1.0 + others * 1.0 + others * 9.0
    assert found[CLOSING] == 5.0
    assert orchestration_s(found) == pytest.approx(sum(found.values()) - 6.0)


def test_a_server_that_runs_already_is_not_waited_for() -> None:
    marks = [span for span in spans() if span.name != "server"]
    found = pieces(marks, {}, began_s=0.0, ended_s=200.0)
    assert found[SERVER] == 0.0
    assert sum(found.values()) == pytest.approx(200.0)
