"""Marks of when a process did what."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import psutil
import pytest

from graftline.core.timings import Timings, file
from graftline.core.workspace import Workspace


def test_spans_are_written_with_the_process_that_they_are_of(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    timings = Timings()
    before_s = time.time()
    with timings.span("work"):
        pass
    timings.write(workspace, "load", 1.23456)
    record = json.loads(file(workspace, "load").read_text(encoding="utf-8"))
    assert record["seconds"] == 1.235
    # psutil knows the time of the system's start to a second only.
    assert record["born_s"] == pytest.approx(psutil.Process(os.getpid()).create_time(), abs=1.1)
    (span,) = record["spans"]
    assert span["name"] == "work"
    assert before_s - 0.01 <= span["begin_s"] <= span["end_s"] <= time.time() + 0.01


def test_what_fails_is_marked_too() -> None:
    timings = Timings()
    with pytest.raises(ZeroDivisionError), timings.span("failing"):
        1 / 0  # noqa: B018
    assert [span.name for span in timings.spans] == ["failing"]
