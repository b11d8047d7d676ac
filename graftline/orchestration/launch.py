"""Starts a flow from the command line: checks, holds the checkout, then brings up Prefect.

Nothing here imports Prefect at the top: its settings are read from the environment when it is
imported, and its server needs seconds to start, in which the import can take place.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftline.core.backbone_cuts import check_cut
from graftline.core.environment import patience_s, prefect_address
from graftline.core.errors import GraftlineError, ServerError
from graftline.core.exit_codes import NOT_PROMOTED, reported
from graftline.core.processes import termination_as_interrupt
from graftline.core.redaction import without_secrets
from graftline.core.startup import collect_rarely
from graftline.core.timings import FLOW, Timings
from graftline.core.workspace import Workspace
from graftline.operations.borrowed_params import borrow, put_back
from graftline.operations.dvc_exp_guard import refuse_after_interrupted, told_of_experiment
from graftline.operations.servers import alive, prefect_server
from graftline.orchestration.api import api_for, quieten
from graftline.orchestration.overrides import overrides_to, plan_overrides
from graftline.orchestration.screen import Screen, warnings_said

if TYPE_CHECKING:
    from graftline.core.params import Params
    from graftline.orchestration.pipeline import Pipeline
    from graftline.registry.promotions import Promotion

_HASTE_S = 10.0


@dataclass(frozen=True)
class Launch:
    """What was asked for on the command line.

    Args:
        module: The flow's module.
        flow: Its name in it.
        params_file: Takes the place of ``params.yaml``.
        overrides: ``key=value`` texts.
        wait_s: How long to wait for another holder of the pipeline.
        force: Whether every stage runs.
        debug: Whether tracebacks and Prefect's own lines are shown.
        looks: Whether the flow looks first whether there is anything to do.
        once: Whether ``params.yaml`` is put back at the end.
        require_promotion: Whether a model that does not become the champion has an exit code of
            its own.
    """

    module: str
    flow: str
    params_file: Path | None = None
    overrides: Sequence[str] = ()
    wait_s: float = 0.0
    force: bool = False
    debug: bool = False
    looks: bool = False
    once: bool = False
    require_promotion: bool = False


def launch(module: str, flow: str, arguments: Sequence[str], *, looks: bool = False) -> int:
    """Runs a flow.

    Args:
        module: The flow's module, as in ``flows.train``.
        flow: Its name in it.
        arguments: The command line's.
        looks: Whether the flow looks first whether there is anything to do. If there is not, and
            no server runs that could be told, none is started.

    Returns:
        The exit code: 0; 2 for what the user can mend; 1 for a fault of ours; 3 if the model is
        not the champion then, and that was asked for; 130 when interrupted.
    """
    wanted = _parsed(module, flow, arguments, looks=looks)
    collect_rarely()
    screen = Screen()

    def command() -> int:
        with termination_as_interrupt():
            outcome = _run(wanted, Workspace.here(), screen)
        if not wanted.require_promotion or outcome is None or is_champion(outcome):
            return 0
        screen.say(f"exit code {NOT_PROMOTED}: the model was not promoted (--require-promotion)")
        return NOT_PROMOTED

    return reported(command, debug=wanted.debug)


def is_champion(promotion: Promotion) -> bool:
    """Whether the model that a flow has registered is the champion after it."""
    return promotion.champion_now == promotion.challenger_version


def call_train(params: Params | None = None) -> Any:
    """What a call of the flow ``train`` from Python or a notebook does, in the project here.

    Args:
        params: What it runs with; written to ``params.yaml`` first, where the stages read it, with
            the former file kept. None takes what stands there.

    Returns:
        What the flow returns.

    Raises:
        GraftlineError: If it fails.
    """
    workspace = Workspace.here()
    overrides = () if params is None else overrides_to(params, workspace)
    return _run(Launch("flows.train", "train", overrides=overrides), workspace, Screen())


def call_retrain(force: bool = False, wait_s: float = 0.0) -> Any:
    """What a call of the flow ``retrain`` from Python does; None if there was nothing to do.

    Args:
        force: Whether every stage runs.
        wait_s: How long to wait for another holder of the pipeline, in seconds.

    Raises:
        GraftlineError: If it fails.
    """
    wanted = Launch("flows.retrain", "retrain", wait_s=wait_s, force=force, looks=True)
    return _run(wanted, Workspace.here(), Screen())


def _run(wanted: Launch, workspace: Workspace, screen: Screen) -> Any:
    from graftline.orchestration.pipeline import prepared

    started_s = time.monotonic()
    timings = Timings()
    quieten(workspace, debug=wanted.debug)
    refuse_after_interrupted(workspace)
    # A word that is wrong is told before any waiting; what holds is read after it.
    check_cut(plan_overrides(workspace, wanted.params_file, wanted.overrides).params.backbone)
    with (
        prepared(
            workspace,
            lambda: _chosen(wanted, workspace, screen),
            screen,
            wait_s=wanted.wait_s,
            force=wanted.force,
            timings=timings,
        ) as execution,
        ExitStack() as stack,
    ):
        stack.callback(_put_back, wanted, workspace, screen)
        if not wanted.debug:
            stack.enter_context(warnings_said(screen))
        if wanted.looks and not (_server_runs(workspace) or execution.news.anything):
            screen.say(f"{execution.news}.")
            return None
        imported = partial(_imported, wanted, execution)
        flow = stack.enter_context(api_for(workspace, imported, screen.say, timings))
        # Who interrupts a flow wants it to end, even if its server does not answer.
        waits_s = _HASTE_S
        try:
            with timings.span("flow"), _loss_reported():
                outcome = flow(force=wanted.force) if wanted.looks else flow(execution.params)
            waits_s = patience_s()
        finally:
            with timings.span("settle"):
                _settle(execution, waits_s)
    timings.write(workspace, FLOW, time.monotonic() - started_s)
    if outcome is not None:
        from graftline.orchestration.run_summary import show_closing

        show_closing(screen, workspace, outcome, time.monotonic() - started_s)
    return outcome


def _server_runs(workspace: Workspace) -> bool:
    return prefect_address(os.environ, workspace.root) is not None or alive(
        prefect_server(workspace)
    )


def _chosen(wanted: Launch, workspace: Workspace, screen: Screen) -> Params:
    """Puts what was asked for into ``params.yaml`` as it is now; the parameters that it holds."""
    if (told := told_of_experiment(workspace)) and not wanted.looks:
        screen.say(f"{told}; to go back to the commit's: git checkout params.yaml")
    change = plan_overrides(workspace, wanted.params_file, wanted.overrides)
    if not (wanted.once and workspace.params_file.exists()):
        return change.write_and_tell(workspace, screen.say)
    for line in change.told(workspace):
        screen.say(f"params.yaml: {line}, for this run")
    if change.text is not None:
        borrow(workspace, change.text)
    return change.params


def _put_back(wanted: Launch, workspace: Workspace, screen: Screen) -> None:
    if wanted.once and (said := put_back(workspace)):
        screen.say(said)


@contextmanager
def _loss_reported() -> Iterator[None]:
    import httpx

    try:
        yield
    except (httpx.TransportError, httpx.HTTPStatusError) as error:
        if isinstance(error, httpx.HTTPStatusError) and not error.response.is_server_error:
            raise
        # Prefect could not be told how the flow has failed; its user still is.
        before: BaseException | None = error
        while before is not None:
            if isinstance(before, GraftlineError):
                raise before from None
            before = before.__context__
        raise ServerError(
            "Prefect's server, or its database, went away in the middle and did not come back: "
            f"{str(error).partition(' - Response')[0]}",
            where=_server_shown(),
            fix="start it and run again; every step that was finished is kept",
        ) from error


def _server_shown() -> str:
    address = prefect_address(os.environ, Path.cwd())
    return "var/prefect" if address is None else f"PREFECT_API_URL: {without_secrets(address)}"


def _imported(wanted: Launch, execution: Pipeline) -> Any:
    with execution.timings.span("import"):
        flow = getattr(importlib.import_module(wanted.module), wanted.flow)
    # Importing MLflow takes the seconds that the server still needs.
    if not wanted.looks or execution.news.anything:
        execution.track()
    return flow


def _settle(execution: Pipeline, patience_s: float) -> None:
    from graftline.orchestration.settle import flush_logs, settle

    say = execution.screen.say
    if not settle(execution.flow_run_id, execution.task_run_ids, say, patience_s):
        say("Prefect's server has not confirmed the end of every task; its page may lag")
    flush_logs()


def _parsed(module: str, flow: str, arguments: Sequence[str], *, looks: bool) -> Launch:
    does = f"Runs the flow {flow} on the checkout in the current directory."
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=does)
    parser.add_argument(
        "--params",
        dest="params_file",
        type=_path,
        metavar="FILE",
        help="put this file's text into params.yaml first",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="put this value into params.yaml first (train.epochs=3); may be repeated",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="put params.yaml back at the end of this run: --params and --set hold for it alone",
    )
    waiting = parser.add_mutually_exclusive_group()
    waiting.add_argument(
        "--wait",
        dest="wait_s",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="wait this long if another process holds the pipeline",
    )
    waiting.add_argument(
        "--no-wait",
        dest="wait_s",
        action="store_const",
        const=0.0,
        help="refuse at once if another process holds the pipeline (the default)",
    )
    parser.add_argument("--force", action="store_true", help="run every stage, stale or not")
    parser.add_argument(
        "--require-promotion",
        action="store_true",
        help=f"end with exit code {NOT_PROMOTED} if the model is not the champion then; other exit "
        "codes: 0 done, 2 what you can mend, 1 a fault of Graftline's, 130 interrupted",
    )
    parser.add_argument(
        "--debug", action="store_true", help="show tracebacks, and Prefect's own lines"
    )
    return Launch(module=module, flow=flow, looks=looks, **vars(parser.parse_args(arguments)))


def _path(text: str) -> Path:
    # A shell leaves the ~ of --params=~/x as it is.
    return Path(os.path.expanduser(text))


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds from 0 on")
    return seconds
