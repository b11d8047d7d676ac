from __future__ import annotations

import pytest

from graftline.cli.compare import show_comparison
from graftline.core.errors import MissingOutputError
from graftline.core.workspace import Workspace
from graftline.inference.side_by_side import side_by_side
from graftline.registry import tracking
from tests import contests, finished


def test_two_versions_a_run_and_a_folder_are_held_beside_each_other(
    tracked: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    contests.save_bare(monkeypatch)
    contests.run(tracked, "first", range(30))
    stricter = contests.ASKED.model_copy(update={"min_accuracy": 0.5})
    second = contests.run(tracked, "second", range(20, 30), stricter)

    found = side_by_side(tracked, "1", "challenger")
    assert (found.a.name, found.b.name) == (
        "graftline version 1",
        "graftline version 2 (challenger, champion)",
    )
    assert found.params == {"promote.min_accuracy": ("0.9", "0.5")}
    assert found.metrics["test_accuracy"] == (0.97, 0.99)
    assert found.paired is not None
    paired = found.paired
    assert (paired.only_champion_right, paired.only_challenger_right) == (0, 20)
    assert paired.difference == pytest.approx(0.02)
    assert paired.p_better < 0.001

    assert show_comparison(tracked, one="1", other=second.run_id, as_json=False) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "test_accuracy │ 0.9700 │ 0.9900 │ +0.0200" in said
    assert "On the same 1,000 test images A names 97.00% rightly and B 99.00%: +2.00 points" in said
    assert "0 images only A gets right, 20 only B. B is surely better" in said

    # Its answers are asked for; here all of them are right.
    folder = side_by_side(tracked, "2", str(tracked.trained))
    assert folder.b.run_id is None
    assert folder.paired is not None
    assert folder.paired.only_challenger_right == 10


def test_other_test_splits_are_compared_by_what_they_have_in_common(
    tracked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    contests.save_bare(monkeypatch)
    contests.run(tracked, "first", range(30))
    contests.load(tracked, "fewer", images=900)
    contests.run(tracked, "second", range(10), images=900)
    paired = side_by_side(tracked, "1", "2").paired
    assert paired is not None
    assert (paired.images, paired.only_challenger_right) == (900, 20)


def test_what_is_not_there_is_told(tracked: Workspace) -> None:
    with pytest.raises(MissingOutputError, match="no run " + "a" * 32):
        side_by_side(tracked, "a" * 32, "1")
    with pytest.raises(MissingOutputError, match="no champion of graftline") as caught:
        side_by_side(tracked, "champion", "1")
    # It has no such option.
    assert "--model" not in str(caught.value)
    finished.train(tracked, "another")
    found = side_by_side(tracked, str(tracked.trained), str(tracked.trained))
    assert found.a.has_params
    assert found.params == {}
    assert tracking.configure(tracked).root.exists()
