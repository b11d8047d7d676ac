from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from graftline.core import fresh_start
from graftline.core.fresh_start import OvergrownError, refuse_overgrown

PROGRAM = """
import os, sys, time
from pathlib import Path
from graftline.core import fresh_start
fresh_start._LARGE_BYTES = 0
fresh_start.allow()
kept = Path(sys.argv[1])
begun_s = fresh_start.begun_s(time.monotonic())
try:
    for done in range(100):
        pieces = kept.read_text().splitlines() if kept.is_file() else []
        if len(pieces) == 9:
            break
        fresh_start.refuse_overgrown(done)
        kept.write_text("\\n".join([*pieces, f"{os.getpid()} {begun_s}"]))
except fresh_start.OvergrownError:
    fresh_start.start_anew(begun_s)
print("whole", fresh_start.BEGUN_VARIABLE in os.environ)
"""


def test_a_process_that_starts_anew_goes_on_under_its_number(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(kept)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "whole False\n"
    pieces = kept.read_text().splitlines()
    assert len(pieces) == 9
    assert len(set(pieces)) == 1


def test_only_the_command_line_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_start, "_LARGE_BYTES", 0)
    refuse_overgrown(100)
    monkeypatch.setattr(fresh_start, "_allowed", True)
    refuse_overgrown(3)
    with pytest.raises(OvergrownError):
        refuse_overgrown(4)
