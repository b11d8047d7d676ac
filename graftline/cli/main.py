"""The command line: one command per step, and ``predict``, ``serve``, ``status`` and more."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from graftline import __version__
from graftline.cli.steps import STEP_HELP, run_step
from graftline.core.environment import begin_plainly, settle
from graftline.core.exit_codes import replace_what_cannot_be_shown, reported
from graftline.core.stages import STAGES
from graftline.core.startup import collect_rarely
from graftline.core.workspace import Workspace
from graftline.inference.serving.cli import add_options, serve


def entry() -> None:
    """The console script: runs :func:`main` and exits with its code."""
    begin_plainly()
    collect_rarely()
    # What argparse prints comes before the command.
    replace_what_cannot_be_shown()
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Runs one command.

    Returns:
        The exit code: 0; 2 for what the user can mend; 1 for a fault of ours; 130 when interrupted.
    """
    options = _parser().parse_args(arguments)
    workspace = Workspace(options.directory.resolve())
    settle(workspace)
    command: Callable[[Workspace, argparse.Namespace], int] = options.command
    return reported(
        lambda: command(workspace, options),
        debug=options.debug,
        answers=command not in (run_step, serve),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="graftline", description=__doc__)
    parser.add_argument("--version", action="version", version=f"graftline {__version__}")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    shared.add_argument(
        "-C",
        "--directory",
        type=Path,
        default=Path(),
        help="the checkout's root (default: the current directory)",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for stage in STAGES:
        step = commands.add_parser(stage, parents=[shared], help=STEP_HELP[stage])
        step.set_defaults(command=run_step, stage=stage)
    _add_predict(commands, shared)
    service = commands.add_parser(
        "serve", parents=[shared], help="the champion over HTTP, on this machine only"
    )
    add_options(service)
    service.set_defaults(command=serve)
    status = commands.add_parser(
        "status", parents=[shared], help="what is current, what would run and why"
    )
    status.add_argument("--json", action="store_true", help="as JSON")
    status.set_defaults(command=_status)
    mending = commands.add_parser(
        "mend", parents=[shared], help="remove what a failing disk has damaged, to be made anew"
    )
    mending.set_defaults(command=_mend)
    _add_champions(commands, shared)
    ui = commands.add_parser("ui", parents=[shared], help="both web UIs, on this machine only")
    ui.set_defaults(command=_ui)
    lock = commands.add_parser(
        "lock", parents=[shared], help="write the digests of the steps' code to graftline.lock"
    )
    lock.set_defaults(command=_lock)
    schema = commands.add_parser(
        "schema", parents=[shared], help="write params.schema.json, for editors"
    )
    schema.set_defaults(command=_schema)
    return parser


def _add_predict(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], shared: argparse.ArgumentParser
) -> None:
    predict = commands.add_parser(
        "predict", parents=[shared], help="name what is on images, with probabilities"
    )
    predict.add_argument("files", nargs="+", metavar="FILE", help="image files or folders")
    predict.add_argument("--json", action="store_true", help="one JSON object per image")
    predict.add_argument("--top", type=int, default=3, help="labels shown per image (default: 3)")
    predict.add_argument(
        "--model", type=os.path.expanduser, help="a model folder (default: models/trained)"
    )
    predict.set_defaults(command=_predict)


def _add_champions(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], shared: argparse.ArgumentParser
) -> None:
    models = commands.add_parser(
        "models", parents=[shared], help="the versions in the registry, and what became of each"
    )
    models.add_argument("--json", action="store_true", help="as JSON")
    models.set_defaults(command=_models)
    rollback = commands.add_parser(
        "rollback", parents=[shared], help="make the former champion the champion again"
    )
    rollback.add_argument("--reason", default="", metavar="TEXT", help="for the receipt")
    rollback.set_defaults(command=_rollback)
    reproduce = commands.add_parser(
        "reproduce", parents=[shared], help="run a run again as it was, and compare what comes out"
    )
    reproduce.add_argument(
        "which", metavar="RUN|VERSION", help="a run's id, a version's number, or an alias"
    )
    reproduce.add_argument("--json", action="store_true", help="as JSON")
    reproduce.set_defaults(command=_reproduce)


def _predict(workspace: Workspace, options: argparse.Namespace) -> int:
    from graftline.cli.predict import show_predictions

    return show_predictions(
        workspace,
        options.files,
        as_json=options.json,
        top=options.top,
        model=None if options.model is None else Path(options.model),
    )


def _status(workspace: Workspace, options: argparse.Namespace) -> int:
    from graftline.cli.status import show_status

    return show_status(workspace, as_json=options.json)


def _mend(workspace: Workspace, options: argparse.Namespace) -> int:
    from graftline.cli.mend import show_mended

    return show_mended(workspace)


def _models(workspace: Workspace, options: argparse.Namespace) -> int:
    from graftline.cli.models import show_models

    return show_models(workspace, as_json=options.json)


def _rollback(workspace: Workspace, options: argparse.Namespace) -> int:
    from graftline.cli.rollback import show_rollback

    return show_rollback(workspace, options.reason)


def _reproduce(workspace: Workspace, options: argparse.Namespace) -> int:
    from graftline.cli.reproduce import show_reproduction

    return show_reproduction(workspace, options.which, as_json=options.json)


def _ui(workspace: Workspace, options: argparse.Namespace) -> int:
    from graftline.operations.ui import run_ui

    return run_ui(workspace)


def _lock(workspace: Workspace, options: argparse.Namespace) -> int:
    from graftline.core.code_lock import CODE_LOCK, lock_code
    from graftline.core.locks import pipeline_lock

    # What is at work must not find another digest at its end than at its start.
    with pipeline_lock(workspace):
        changed = lock_code(workspace)
    said = f"the code of {', '.join(changed)} has changed" if changed else "current"
    Console(soft_wrap=True, highlight=False).print(f"{CODE_LOCK}: {said}")
    return 0


def _schema(workspace: Workspace, options: argparse.Namespace) -> int:
    import json

    from graftline.core.files import write_text
    from graftline.core.params import json_schema

    write_text(workspace.root / "params.schema.json", json.dumps(json_schema(), indent=2) + "\n")
    return 0
