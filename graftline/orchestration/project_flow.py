"""A flow that is the project's own wherever it is called: from a shell, Python or a notebook."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Flow
from prefect.context import FlowRunContext

from graftline.core.environment import settle
from graftline.core.timings import Timings
from graftline.core.workspace import Workspace
from graftline.orchestration import abandoned, api
from graftline.orchestration.screen import Screen
from graftline.orchestration.settle import flush_logs

P = ParamSpec("P")
R = TypeVar("R")


class ProjectFlow(Flow[P, R]):
    """A flow of Prefect's that, called by itself, tells the project's own server.

    Prefect alone would start a server for the user's home, and keep the run there.
    """

    start: Callable[..., Any] | None = None
    """Calls the flow again, with an API that answers; takes the flow's own arguments."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the flow; within a flow of the user's as a part of that."""
        if api.is_ready() or FlowRunContext.get() is not None:
            return super().__call__(*args, **kwargs)
        # Who wants Prefect's state wants no summary.
        if self.start is not None and "return_state" not in kwargs:
            return self.start(*args, **kwargs)
        workspace = Workspace.here()
        api.quieten(workspace, debug=False)
        with api.api_for(workspace, lambda: self, Screen().say, Timings()):
            try:
                return super().__call__(*args, **kwargs)
            finally:
                # While its server is there: what sends events would send those of the next call
                # to this call's server, too.
                flush_logs()

    def with_options(self, *args: Any, **options: Any) -> ProjectFlow[P, R]:
        """The flow with other options of Prefect's, which tells the project's own server too.

        Prefect makes a plain flow of it. It runs by itself, as one without :attr:`start` does.
        """
        made = super().with_options(*args, **options)
        made.__class__ = ProjectFlow
        # Prefect asks the function, which is coated by now.
        made.isasync, made.isgenerator = self.isasync, self.isgenerator
        return cast("ProjectFlow[P, R]", made)


def project_flow(
    start: Callable[..., Any] | None = None, **options: Any
) -> Callable[[Callable[P, R]], ProjectFlow[P, R]]:
    """Makes a function a flow of the project.

    Args:
        start: What a call of the flow does; see :attr:`ProjectFlow.start`. By default the flow runs
            with the project's API, and nothing else is seen to.
        options: Those of Prefect's ``flow``.
    """

    def coated(function: Callable[P, R]) -> ProjectFlow[P, R]:
        made = ProjectFlow(function, **options)
        # Not before: Prefect takes version, parameters and kind from the function's own file.
        made.fn = _accounted(function)
        made.start = start
        return made

    return coated


def _accounted(function: Callable[P, R]) -> Callable[P, R]:
    """Has a flow first write down its process, and close the runs of those that are gone.

    Before it waits for anything: a run that is killed while it waits is to be found, too.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        workspace = Workspace.here()
        # Where a deployment runs the flow, nobody has done this before.
        settle(workspace)
        abandoned.account(workspace, Screen().say)
        return function(*args, **kwargs)

    return run
