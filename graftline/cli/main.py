"""The command line: one command per step, and ``predict``, ``serve``, ``status`` and more."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from graftline import __version__
from graftline.cli.completion import SHELLS
from graftline.cli.steps import STEP_HELP, run_step
from graftline.core import fresh_start
from graftline.core.environment import begin_plainly, settle
from graftline.core.exit_codes import replace_what_cannot_be_shown, reported
from graftline.core.stages import STAGES
from graftline.core.startup import collect_rarely
from graftline.core.workspace import Workspace
from graftline.inference.model_option import add_model_option
from graftline.inference.serving.cli import add_options, serve

Command = Callable[[Workspace, argparse.Namespace], int]
_ABOUT = (
    "Grafts a new classifier onto a pretrained network. In a project, one command a step, and more."
)


def entry() -> None:
    """The console script: runs :func:`main` and exits with its code."""
    begin_plainly()
    collect_rarely()
    # What argparse prints comes before the command.
    replace_what_cannot_be_shown()
    fresh_start.allow()
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Runs one command.

    Returns:
        The exit code: 0; 2 for what the user can mend; 1 for a fault of ours; 130 when interrupted.
    """
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    if options.stage == "run":
        options.rest = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    workspace = Workspace(options.directory.resolve())
    command: Command = options.command

    def run() -> int:
        settle(workspace)
        return command(workspace, options)

    return reported(run, debug=options.debug, answers=command not in (run_step, serve))


def make_parser() -> argparse.ArgumentParser:
    """The command line with all commands."""
    parser = argparse.ArgumentParser(prog="graftline", description=_ABOUT)
    parser.add_argument("--version", action="version", version=f"graftline {__version__}")
    _add_shared(parser)
    parser.set_defaults(debug=False, directory=Path())
    shared = argparse.ArgumentParser(add_help=False)
    _add_shared(shared)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        name: str, told: str, command: Command, *, json: bool = False, helps: bool = True
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[shared], help=told, add_help=helps)
        added.set_defaults(command=command, stage=name)
        if json:
            added.add_argument("--json", action="store_true", dest="as_json", help="as JSON")
        return added

    init = add(
        "init",
        "make a project, a folder of your own to train in",
        _lazily("cli.projects", "show_new_project", "folder", "images"),
    )
    init.add_argument("folder", type=_path, metavar="DIR", help="the project's folder")
    init.add_argument(
        "--images",
        type=_path,
        metavar="PATH",
        help="a folder, table or .npz of images; the parameters are proposed after a look at them",
    )
    # What follows is the flow's to read, --help too.
    add(
        "run",
        "run what is stale: the flow flows/train.py, with its options (run --help)",
        _lazily("cli.projects", "run_flow", "debug", "rest"),
        helps=False,
    ).set_defaults(rest=())
    for stage in STAGES:
        add(stage, STEP_HELP[stage], run_step)
    shown = ("files", "as_json", "top", "model")
    predict = add(
        "predict",
        "name what is on images, with probabilities",
        _lazily("cli.predict", "show_predictions", *shown),
        json=True,
    )
    predict.add_argument("files", nargs="+", metavar="FILE", help="image files or folders")
    predict.add_argument("--top", type=int, default=3, help="labels shown per image (default: 3)")
    add_model_option(predict)
    add_options(add("serve", "the champion over HTTP, on this machine only", serve))
    add(
        "status",
        "what is current, what would run and why",
        _lazily("cli.status", "show_status", "as_json"),
        json=True,
    )
    add(
        "mend",
        "remove what a failing disk has damaged, to be made anew",
        _lazily("cli.mend", "show_mended"),
    )
    mistakes = add(
        "mistakes",
        "the test images that the model names wrongly, the surest first",
        _lazily("cli.mistakes", "show_mistakes", "as_json", "limit"),
        json=True,
    )
    mistakes.add_argument(
        "--limit", type=_count, default=20, help="how many; 0 shows all (default: 20)"
    )
    compare = add(
        "compare",
        "two models side by side: parameters, metrics, and a paired test",
        _lazily("cli.compare", "show_comparison", "one", "other", "as_json"),
        json=True,
    )
    for name, letter in (("one", "A"), ("other", "B")):
        compare.add_argument(
            name,
            metavar=letter,
            help="a version's number, an alias, a run's id, or a model's folder",
        )
    add(
        "models",
        "the versions in the registry, and what became of each",
        _lazily("cli.models", "show_models", "as_json"),
        json=True,
    )
    rollback = add(
        "rollback",
        "make the former champion the champion again",
        _lazily("cli.rollback", "show_rollback", "reason"),
    )
    rollback.add_argument("--reason", default="", metavar="TEXT", help="for the receipt")
    reproduce = add(
        "reproduce",
        "run a run again as it was, and compare what comes out",
        _lazily("cli.reproduce", "show_reproduction", "which", "as_json"),
        json=True,
    )
    reproduce.add_argument(
        "which", metavar="RUN|VERSION", help="a run's id, a version's number, or an alias"
    )
    up = add(
        "up",
        "servers and a worker for the schedules in prefect.yaml, until graftline down",
        _lazily("cli.projects", "bring_up", "prefect_port", "mlflow_port"),
    )
    for name in ("prefect", "mlflow"):
        up.add_argument(f"--{name}-port", type=int, help="if it is free; 0 takes any")
    add(
        "upgrade",
        "bring a project's files to the installed version, but for those that you have changed",
        _lazily("cli.projects", "show_upgrade"),
    )
    cluster = add(
        "cluster",
        "a Dask scheduler and workers on this machine, to try compute.engine: dask; until Ctrl-C",
        _lazily("cli.cluster", "keep_cluster", "workers", "port"),
    )
    cluster.add_argument("--workers", type=_count, default=2, help="how many (default: 2)")
    cluster.add_argument(
        "--port", type=_count, default=8786, help="the scheduler's (default: 8786); 0 takes any"
    )
    add(
        "down",
        "stop what graftline up and graftline cluster have started",
        _lazily("cli.projects", "take_down"),
    )
    trigger = add(
        "trigger",
        "have a deployment run whenever the source has changed; graftline up does it, too",
        _lazily("cli.unattended", "set_trigger", "deployment", "remove"),
    )
    trigger.add_argument(
        "--deployment", metavar="FLOW/NAME", help="what is to run (default: nightly)"
    )
    trigger.add_argument("--remove", action="store_true", help="take the automation away")
    add(
        "abandoned",
        "close the runs in Prefect whose process is gone; each flow does it at its start, too",
        _lazily("cli.unattended", "close_abandoned_runs"),
    )
    add("ui", "both web UIs, on this machine only", _lazily("operations.ui", "run_ui"))
    add(
        "lock",
        "write the digests of the steps' code to graftline.lock",
        _lazily("cli.written", "write_lock"),
    )
    add(
        "doctor",
        "whether all is well: versions, devices, disk, servers, weights; and what to do",
        _lazily("cli.doctor", "show_doctor", "as_json"),
        json=True,
    )
    completion = add(
        "completion",
        "print a script that completes commands and options in a shell",
        _lazily("cli.completion", "write_completion", "shell"),
    )
    completion.add_argument("shell", choices=SHELLS, help="the shell that it is for")
    add("schema", "write params.schema.json, for editors", _lazily("cli.written", "write_schema"))
    return parser


def _add_shared(parser: argparse.ArgumentParser) -> None:
    """Adds what may stand before a command's name and behind it."""
    # No default here: that of a command would overwrite what was said before its name.
    parser.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the traceback of an error",
    )
    parser.add_argument(
        "-C",
        "--directory",
        type=_path,
        default=argparse.SUPPRESS,
        help="the checkout's root (default: the current directory)",
    )


def _lazily(module: str, function: str, *names: str) -> Command:
    """A command that imports what it needs when it is called.

    Args:
        module: Below ``graftline``.
        function: In it; takes the workspace and the options of these names.
        names: The options' names.
    """

    def command(workspace: Workspace, options: argparse.Namespace) -> int:
        called = getattr(import_module(f"graftline.{module}"), function)
        code: int = called(workspace, **{name: getattr(options, name) for name in names})
        return code

    return command


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)


def _path(text: str) -> Path:
    return Path(text).expanduser()
