"""What the table of the sweep counts, and that the docs show what the records say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from benchmarks.freezing_sweep import recorded
from benchmarks.freezing_table import Answers, Repeat, less_by_halves, p_no_worse, show
from benchmarks.freezing_tasks import TASKS

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "docs" / "measurements" / "freezing"
SHOWN = (ROOT / "docs" / "measurements" / "freezing.md").read_text(encoding="utf-8").splitlines()
QUICK = [(RECORDS, "flowers-10"), (RECORDS, "flowers-20"), (RECORDS, "flowers-grey-30")]


def _recorded_tasks() -> list[tuple[Path, str]]:
    """Where and what; the later repeats of a task have a number behind a dot."""
    folders = (RECORDS, RECORDS / "every")
    return [
        (folder, name)
        for folder in folders
        for name in sorted({file.stem.partition(".")[0] for file in folder.glob("*.json")})
    ]


def _answers(right: NDArray[np.bool_], *, own_test: bool = False) -> Answers:
    return Answers("one", np.atleast_2d(right), own_test)


def test_with_one_repeat_p_is_mcnemars() -> None:
    both, auto_alone, best_alone, neither = 200, 7, 16, 30
    counts = (both, auto_alone, best_alone, neither)
    auto = np.repeat([True, True, False, False], counts)
    best = np.repeat([True, False, True, False], counts)
    exact = binomtest(auto_alone, auto_alone + best_alone, 0.5, alternative="less").pvalue
    assert p_no_worse(_answers(auto), _answers(best)) == pytest.approx(exact, abs=0.01)


def test_repeats_with_images_of_their_own_count_each_image_once() -> None:
    right = np.random.default_rng(0).random((4, 50)) < 0.9
    assert _answers(right, own_test=True).shares.tolist() == right.ravel().tolist()
    assert _answers(right).shares.tolist() == right.mean(axis=0).tolist()
    assert _answers(right, own_test=True).accuracy == _answers(right).accuracy


@pytest.mark.parametrize("own_test", [False, True])
def test_the_best_of_equals_is_no_better_by_other_images(own_test: bool) -> None:
    chance = np.random.default_rng(0)
    every = [_answers(one, own_test=own_test) for one in chance.random((40, 2, 400)) < 0.9]
    auto = every[0]
    assert max(one.accuracy for one in every) - auto.accuracy > 0.02
    assert abs(less_by_halves(auto, every)) < 0.01


def test_a_better_candidate_is_better_by_other_images_too() -> None:
    chance = np.random.default_rng(0)
    better, auto = (_answers(chance.random((2, 400)) < share) for share in (0.95, 0.85))
    assert less_by_halves(auto, [auto, better]) == pytest.approx(
        better.accuracy - auto.accuracy, abs=0.02
    )


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    known = recorded(RECORDS, TASKS["flowers-10"])[1]
    known.write(tmp_path / "record.json")
    assert Repeat.read(tmp_path / "record.json") == known


def test_every_task_is_recorded() -> None:
    assert {name for folder, name in _recorded_tasks() if folder == RECORDS} == set(TASKS)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        pytest.param(*one, marks=() if one in QUICK else pytest.mark.slow)
        for one in _recorded_tasks()
    ],
)
def test_the_docs_show_what_the_records_say(folder: Path, name: str, tmp_path: Path) -> None:
    show({name: recorded(folder, TASKS[name])}, tmp_path / "table.md")
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert set(lines) <= set(SHOWN)
