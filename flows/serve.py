"""Serves the retraining from one process, which keeps the schedule and starts the runs itself.

python -m flows.serve --cron "0 3 * * *"

For one machine without a worker; ``prefect.yaml`` says what is not said here. It needs a server
that runs: one of its own would end with it, and schedule nothing.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
from rich.console import Console

from graftline.core.environment import begin_plainly, prefect_address, settle
from graftline.core.errors import ParamsError, ServerError
from graftline.core.exit_codes import reported
from graftline.core.processes import end_all
from graftline.core.repository import check_repository
from graftline.core.startup import collect_rarely
from graftline.core.workspace import Workspace
from graftline.operations.names_on_servers import name_on_servers, with_project
from graftline.operations.servers import client_environment, join_running, leave, prefect_server
from graftline.orchestration.abandoned import MESSAGE, close_abandoned
from graftline.orchestration.api_health import check_answers
from graftline.orchestration.deployments import Deployment, deployments

_MODEL = "nightly"
"""The deployment in ``prefect.yaml`` whose settings hold here too."""


def main(arguments: Sequence[str]) -> int:
    """Serves until interrupted.

    Returns:
        The exit code: 0 once stopped; 2 for what the user can mend; 1 for a fault of ours.
    """
    options = _parser().parse_args(arguments)
    workspace = Workspace.here()
    settle(workspace)

    def run() -> int:
        with _server(workspace) as known:
            check_repository(workspace.root)
            model = _model(workspace)
            os.environ.update(known | model.environment)
            try:
                _serve(known["PREFECT_API_URL"], model, options)
            except KeyboardInterrupt:
                pass  # A stop is no fault: Prefect has paused the schedule by now.
            finally:
                end_all(psutil.Process().children())
        return 0

    return reported(run, debug=options.debug)


def _serve(api: str, model: Deployment, options: argparse.Namespace) -> None:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.runner import Runner
    from prefect.schedules import Cron
    from prefect.types.entrypoint import EntrypointType
    from pydantic import ValidationError

    from flows.retrain import retrain

    check_answers(api)
    # A run that is gone may hold the place of those to come.
    for name in close_abandoned(Workspace.here()):
        Console(highlight=False, soft_wrap=True).print(f"closed {name}: {MESSAGE}", markup=False)
    # Prefect's own answer to SIGTERM leaves before it has paused anything; that to Ctrl-C does not.
    runner: Any = Runner
    runner.handle_sigterm = lambda *_: signal.raise_signal(signal.SIGINT)
    crons = [options.cron] if options.cron else list(model.crons)
    try:
        schedules = [Cron(cron, timezone=options.timezone) for cron in crons]
    except (ValidationError, ValueError) as error:
        raise ParamsError(
            f"{', '.join(crons)} in {options.timezone} is no schedule",
            allowed="minute, hour, day of the month, month, day of the week, as in '0 3 * * *', "
            "and a time zone as in Europe/Berlin",
            fix="correct --cron or --timezone",
        ) from error
    name = with_project(options.name, model.project)
    Console(highlight=False, soft_wrap=True).print(
        f"serving retrain/{name} on {api.removesuffix('/api')}: {', '.join(crons)} "
        f"({options.timezone}). Ctrl-C stops it, and pauses its schedule."
    )
    retrain.serve(
        name=name,
        schedules=schedules,
        global_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy(options.collision)
        ),
        parameters=model.record.get("parameters") or {},
        description=model.record.get("description"),
        print_starting_message=False,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


@contextmanager
def _server(workspace: Workspace) -> Iterator[dict[str, str]]:
    chosen = prefect_address(os.environ, workspace.root)
    if chosen is not None:
        yield {"PREFECT_API_URL": chosen}
        return
    server = prefect_server(workspace)
    address = join_running(server)
    if address is None:
        raise ServerError(
            "no Prefect server runs here, and without one nothing would be scheduled",
            where=str(server.folder),
            allowed="the server that graftline up or graftline ui has started, or one named by "
            "PREFECT_API_URL",
            fix="run graftline up (servers and a worker, which keeps the schedule of "
            "prefect.yaml), or graftline ui in another terminal and then this again",
        )
    try:
        yield client_environment(server, address)
    finally:
        leave(server)


def _model(workspace: Workspace) -> Deployment:
    for one in deployments(workspace):
        if one.written == _MODEL:
            return one
    record = {"name": _MODEL, "schedules": [{"cron": "0 3 * * *"}]}
    return Deployment(record, name_on_servers(workspace))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.serve", description=(__doc__ or "").replace("``", "")
    )
    parser.add_argument("--cron", help="when it runs (default: what prefect.yaml says of nightly)")
    parser.add_argument("--timezone", default="UTC", help="of the schedule (default: UTC)")
    parser.add_argument(
        "--collision",
        choices=("CANCEL_NEW", "ENQUEUE"),
        default="CANCEL_NEW",
        help="what becomes of a run that is due while another is at work (default: CANCEL_NEW)",
    )
    parser.add_argument(
        "--name", default="served", help="the deployment's name, before the project's"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


if __name__ == "__main__":
    begin_plainly()
    collect_rarely()
    sys.exit(main(sys.argv[1:]))
