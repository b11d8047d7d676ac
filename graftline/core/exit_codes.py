"""How a command ends: what it raises becomes a message and an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from graftline.core.environment import ERROR_FILE_VARIABLE
from graftline.core.errors import GraftlineError, StorageFullError, from_system, visible
from graftline.core.files import write_text
from graftline.core.printed import lost, outlive_full_disk
from graftline.core.redaction import without_secrets

NOT_PROMOTED = 3
"""Of a flow whose model has to become the champion, and did not."""
_INTERRUPTED = 130
_FAULT = (
    "this is a fault in Graftline, or in something below it; run again with --debug for the "
    "traceback"
)


def replace_what_cannot_be_shown() -> None:
    """Has signs that the terminal's or file's encoding lacks printed as escapes.

    File names may hold bytes that are no text, and a terminal in Latin-1 or ASCII lacks most signs;
    neither may end a run that is finished.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def reported(command: Callable[[], int], *, debug: bool, answers: bool = False) -> int:
    """Runs a command and turns what it raises into a message and an exit code.

    Args:
        command: What is run; it gives its exit code.
        debug: Whether tracebacks are shown.
        answers: Whether what it prints is what it was asked for; see :mod:`graftline.core.printed`.

    What it raises is also left for the process that started this one, if that asks for it.

    Returns:
        What the command returns; 2 for what the user can mend; 1 for a fault of ours; 130 when
        interrupted.
    """
    replace_what_cannot_be_shown()
    outlive_full_disk(answers=answers)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        code = command()
        # While an error of it can still be told.
        sys.stdout.flush()
        if missing := lost():
            what = " and ".join(missing)
            console.print(f"no space was left for all that was printed to {what}", style="yellow")
        return code
    except GraftlineError as error:
        leave_error(error)
        if debug:
            _show_traceback(console)
        console.print(f"error: {error}", style="red", markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        console.print("interrupted; what was finished is kept", style="yellow")
        return _INTERRUPTED
    except Exception as error:
        if debug:
            _show_traceback(console)
        if (known := from_system(error, Path.cwd())) is not None:
            leave_error(known)
            console.print(f"error: {known}", style="red", markup=False)
            return known.exit_code
        console.print(
            visible(without_secrets(f"error: {type(error).__name__}: {error}\n  {_FAULT}")),
            style="red",
            markup=False,
        )
        return 1


def leave_error(error: GraftlineError) -> None:
    """Writes an error where the process that started this one looks for it."""
    if target := os.environ.get(ERROR_FILE_VARIABLE):
        # Where nothing can be written, the error that says so cannot be either; it is printed.
        with contextlib.suppress(OSError, StorageFullError):
            write_text(Path(target), error.to_json())


def _show_traceback(console: Console) -> None:
    # Others quote the addresses that they were given.
    console.print(visible(without_secrets(traceback.format_exc())), markup=False)
