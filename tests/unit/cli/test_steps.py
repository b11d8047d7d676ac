"""What a step prints: a line on what it did, unless the flow around it says that."""

from __future__ import annotations

import argparse

import pytest

from graftline.cli import steps
from graftline.core.counts import counted
from graftline.core.environment import HELD_BY_VARIABLE
from graftline.core.records import Preprocessed
from graftline.core.workspace import Workspace

ONE = Preprocessed(
    classes=("a",),
    dataset_digest="x",
    counts={"train": 1},
    size_px=32,
    uniform_shape=(32, 32, 1),
    shrunk=1,
)


@pytest.mark.parametrize("held", [False, True])
def test_in_a_flow_the_flow_says_it(
    held: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setattr(steps, "run_stage", lambda stage, workspace: ONE)
    if held:
        monkeypatch.setenv(HELD_BY_VARIABLE, "1")
    options = argparse.Namespace(stage="preprocess")
    assert steps.run_step(Workspace(tmp_path_factory.mktemp("here")), options) == 0
    expected = "" if held else "preprocess: 1 image, 32x32x1; 1 was shrunk\n"
    assert capsys.readouterr().out == expected


def test_counts_agree_with_their_nouns() -> None:
    assert counted(1, "exact duplicate") == "1 exact duplicate"
    assert counted(0, "exact duplicate") == "0 exact duplicates"
    assert counted(1200, "class", "classes") == "1,200 classes"
