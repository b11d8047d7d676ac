from __future__ import annotations

import contextlib
import io
import subprocess
import sys

import pytest

from graftline.core import progress as module
from graftline.core.progress import Bar, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")


def drawn(advances: int, total: int | None = 10, status: str = "") -> str:
    """What a terminal gets; pytest puts standard error back before each test's own call."""
    with contextlib.redirect_stderr(Terminal()) as stream:
        with progress("train", total, "images") as bar:
            for _ in range(advances):
                bar.advance(4, status)
    return stream.getvalue()


def test_quiet_without_a_terminal(capfd, monkeypatch):
    monkeypatch.setattr(module, "_SILENT_S", 0)
    with progress("load", 10) as bar:
        bar.advance(10)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_silent_for_two_seconds():
    assert drawn(3) == ""


def test_afterwards_it_shows_count_rate_and_status(monkeypatch):
    monkeypatch.setattr(module, "_SILENT_S", 0)
    shown = drawn(1, status="loss 0.25")
    assert "train" in shown
    assert "4/10" in shown
    assert "images/s" in shown
    assert "loss 0.25" in shown


def test_without_a_total(monkeypatch):
    monkeypatch.setattr(module, "_SILENT_S", 0)
    assert "8/?" in drawn(2, total=None)


def test_an_error_takes_the_bar_off(monkeypatch):
    monkeypatch.setattr(module, "_SILENT_S", 0)
    with contextlib.redirect_stderr(Terminal()) as stream:
        with pytest.raises(ValueError, match="x"), progress("train", None) as bar:
            bar.advance()
            raise ValueError("x")
    # The cursor, hidden while a bar is drawn, is back.
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1


def test_rich_is_imported_only_when_a_bar_is_drawn():
    code = (
        "import sys; from graftline.core.progress import progress\n"
        "with progress('x', 1) as bar: bar.advance()\n"
        "sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_bar_that_is_never_shown_can_be_closed():
    Bar("x", 1, "images", shown=False).close()
