"""How a command ends, whatever its output can show."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
from rich.console import Console
from rich.table import Table
from graftline.endings import reported
from graftline.errors import UserError

def command():
    table = Table("class", "…")
    table.add_row("Gänse → 鳥", "1")
    console = Console()
    console.print(table)
    with console.status("läuft …"):
        print("Gänse → 鳥")
    if FAILS:
        raise UserError("Gänse → 鳥 fehlen")
    return 0

raise SystemExit(reported(command, debug=False))
"""


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "G\\xe4nse \\u2192 \\u9ce5"),
        ("latin-1", "Gänse \\u2192 \\u9ce5"),
        ("utf-8", "Gänse → 鳥"),
    ],
)
def test_signs_that_the_output_lacks_are_replaced(encoding: str, shown: str, fails: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("FAILS", str(fails))],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    told = done.stderr.decode(encoding)

    assert shown in done.stdout.decode(encoding)
    assert (done.returncode, "Traceback" in told) == (2 if fails else 0, False), told
    assert (f"{shown} fehlen" in told) == fails


@pytest.mark.parametrize("module", ["graftline", "flows.train", "flows.predict", "flows.serve"])
def test_help_can_be_shown_in_ascii(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        env=os.environ | {"PYTHONIOENCODING": "ascii:strict"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


PRINTING = """
import sys
from graftline.endings import reported

def command():
    for number in range(3):
        print("printed", number, flush=True)
        sys.stderr.write("told\\n")
    return 0

raise SystemExit(reported(command, debug=False, answers=ANSWERS))
"""


@pytest.mark.parametrize("options", [[], ["-u"]], ids=["buffered", "unbuffered"])
def test_a_log_on_a_full_disk_ends_nothing_and_an_answer_that_is_lost_is_an_error(
    options: list[str],
) -> None:
    def ended(answers: bool, **streams: Any) -> tuple[int, str, str]:
        code = PRINTING.replace("ANSWERS", str(answers))
        done = subprocess.run(
            [sys.executable, *options, "-c", code], text=True, check=False, **streams
        )
        return done.returncode, done.stdout or "", done.stderr or ""

    pipe = subprocess.PIPE
    printed = "printed 0\nprinted 1\nprinted 2\n"
    left_out = "no space was left for all that was printed to standard output\n"
    with open("/dev/full", "wb") as full:
        assert ended(False, stdout=full, stderr=pipe) == (0, "", "told\n" * 3 + left_out)
        assert ended(False, stdout=pipe, stderr=full) == (0, printed, "")
        assert ended(True, stdout=pipe, stderr=full) == (0, printed, "")
        assert ended(False, stdout=full, stderr=full) == (0, "", "")
        assert ended(True, stdout=full, stderr=full) == (2, "", "")
        code, _, said = ended(True, stdout=full, stderr=pipe)
    assert code == 2
    assert said.startswith("error: no space is left on the disk while writing standard output\n")
