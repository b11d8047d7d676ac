"""Starts the flow ``predict`` from the command line, and closes it with a summary.

Nothing here imports Prefect at the top: see :mod:`graftline.orchestration.launch`. The pipeline is
not held, so that one can predict while another model is trained.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from graftline.core.exit_codes import reported
from graftline.core.processes import termination_as_interrupt
from graftline.core.startup import collect_rarely
from graftline.core.timings import Timings
from graftline.core.workspace import Workspace
from graftline.evaluation.style import percent
from graftline.inference.model_option import add_model_option
from graftline.orchestration.api import api_for, quieten
from graftline.orchestration.screen import Screen, StepEnd

if TYPE_CHECKING:
    from graftline.core.params import Params
    from graftline.inference.batch.writer import Batch
    from graftline.inference.drift.decision import Drift

_MODULE, _FLOW = "flows.predict", "predict"
_FOLDER = "predictions"
_MOST_LABELS = 12


@dataclass(frozen=True)
class Request:
    """What is predicted.

    Args:
        paths: Image files, folders, tables and patterns.
        out: The Parquet file.
        model: What ``--model`` names; see :func:`graftline.inference.model_choice.choose_model`.
    """

    paths: tuple[str, ...]
    out: Path
    model: str | None = None


def launch(arguments: Sequence[str]) -> int:
    """Runs the flow.

    Returns:
        The exit code: 0, also where some files could not be read; 2 for what the user can mend; 1
        for a fault of ours; 130 when interrupted.
    """
    options = _parser().parse_args(arguments)
    collect_rarely()
    out = Path(options.out or default_out(options.paths[0])).absolute()
    request = Request(tuple(options.paths), out, options.model)

    def command() -> int:
        with termination_as_interrupt():
            _run(request, Workspace.here(), debug=options.debug)
        return 0

    return reported(command, debug=options.debug)


def call_predict(request: Request) -> tuple[Batch, Drift]:
    """What a call of the flow from Python or a notebook does, in the project that it is in.

    Raises:
        GraftlineError: If it fails.
    """
    return _run(request, Workspace.here(), debug=False)


def default_out(path: str) -> Path:
    """Where predictions go unless ``--out`` says: the same place for the same input."""
    name = Path(path).resolve().stem.strip(".*?[]") or "images"
    return Path(_FOLDER) / f"{name}.parquet"


_params: Params | None = None


@contextmanager
def opened(request: Request) -> Iterator[None]:
    """Holds the place of the predictions while the flow runs, and reads the parameters once."""
    from graftline.compute import working_on
    from graftline.core.params import read_params
    from graftline.inference.batch.writer import held

    global _params
    workspace = Workspace.here()
    with held(workspace, request.out):
        _params = read_params(workspace.params_file)
        try:
            with working_on(workspace.root, _params.compute, "predict"):
                yield
        finally:
            _params = None


def params() -> Params:
    """What ``params.yaml`` held when the flow began.

    Raises:
        RuntimeError: If a task is called outside the flow.
    """
    if _params is None:
        raise RuntimeError("a task of the flow predict runs inside it")
    return _params


@contextmanager
def telling(step: str) -> Iterator[Callable[[str], None]]:
    """Prints a step's line at its end; what is yielded takes what came out of it."""
    began_s = time.monotonic()
    texts: list[str] = []
    screen = Screen()
    try:
        yield texts.append
    except BaseException:
        screen.end(StepEnd(step, "failed", time.monotonic() - began_s))
        raise
    screen.end(StepEnd(step, "executed", time.monotonic() - began_s, " ".join(texts)))


def _rows(batch: Batch, drift: Drift) -> list[tuple[str, str]]:
    """What came out: how many of what, how sure, whether they drifted, where it lies."""
    from graftline.data.image_files import told_left_out
    from graftline.inference.batch.writer import UNSURE_BELOW
    from graftline.inference.drift.report import TEXT, report_folder, sentence

    read = batch.images - batch.unread
    rows = [("images", f"{batch.images:,}{_labels_told(batch.labels)}")]
    if batch.unread:
        rows.append(
            ("not read", f"[red]{batch.unread:,}[/red]; the column error says why, file by file")
        )
    if batch.left_out:
        rows.append(("left out", escape(told_left_out(Counter(batch.left_out)))))
    if read:
        unsure = f"{percent(batch.unsure / read)} of the answers have a probability below "
        rows.append(("unsure", f"{unsure}{UNSURE_BELOW:g}"))
    rows.append(("drift", escape(sentence(drift))))
    out = Path(batch.predictions)
    version = batch.model_version
    model = f"{batch.model} version {version}" if version.isdecimal() else batch.model
    rows += [
        ("model", escape(model)),
        ("file", escape(_relative(out))),
        ("report", escape(_relative(report_folder(out) / TEXT))),
    ]
    if drift.alarm:
        rows.append(
            ("next", "look at some of the images; if they are what you want named, train on such")
        )
    return rows


def _labels_told(labels: Mapping[str, int]) -> str:
    given = sorted(labels.items(), key=lambda item: -item[1])
    if len(given) > _MOST_LABELS:
        # Of few classes it is worth knowing that nothing is one of them.
        given = [(name, count) for name, count in given if count]
    told = ", ".join(f"{escape(name)} ({count:,})" for name, count in given[:_MOST_LABELS])
    if more := len(given[_MOST_LABELS:]):
        told += f" and {more:,} more classes"
    return told and f": {told}"


def _relative(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _run(request: Request, workspace: Workspace, *, debug: bool) -> tuple[Batch, Drift]:
    began_s = time.monotonic()
    quieten(workspace, debug=debug)
    screen = Screen()
    with api_for(workspace, _imported, screen.say, Timings()) as flow:
        try:
            batch, drift = flow(request)
        finally:
            from graftline.orchestration.settle import flush_logs

            flush_logs()
    screen.summary(_rows(batch, drift), time.monotonic() - began_s)
    return batch, drift


def _imported() -> Any:
    return getattr(importlib.import_module(_MODULE), _FLOW)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {_MODULE}",
        description="Names what is on image files of any number; the answers go into one Parquet "
        "file. Killed and started again with the same arguments, it goes on where it was.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="an image, a folder, a table (.csv, .tsv, .parquet) with a column path, or a pattern",
    )
    parser.add_argument(
        "--out",
        type=os.path.expanduser,  # A shell leaves the ~ of --out=~/x as it is.
        metavar="FILE",
        help=f"the Parquet file (default: {_FOLDER}/, named after the first PATH)",
    )
    add_model_option(parser)
    parser.add_argument(
        "--debug", action="store_true", help="show tracebacks, and Prefect's own lines"
    )
    return parser
