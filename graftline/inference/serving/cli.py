"""``graftline serve``: loads the model, listens on this machine alone, and stops in good order."""

from __future__ import annotations

import logging
import socket
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from graftline.compute.cores import using_workers, workers_in
from graftline.core.counts import counted
from graftline.core.errors import ServerError, UserError
from graftline.core.loopback import is_loopback
from graftline.core.workspace import Workspace
from graftline.inference.model_option import add_model_option
from graftline.inference.serving.limits import MEGABYTE, Limits

if TYPE_CHECKING:
    from graftline.inference.serving.metrics import Counters
    from graftline.inference.serving.models import ServedModel
    from graftline.inference.serving.request_guard import App

HOST = "127.0.0.1"
PORT = 8000
WATCH_S = 3.0
_DEFAULTS = Limits()


def add_options(parser: ArgumentParser) -> None:
    """Adds what ``graftline serve`` takes."""
    add_model_option(parser)
    parser.add_argument(
        "--port", type=_whole(0, 65535), default=PORT, help=f"0 takes a free one (default: {PORT})"
    )
    parser.add_argument(
        "--host", default=HOST, help=f"an address of this machine alone (default: {HOST})"
    )
    parser.add_argument(
        "--watch-s",
        type=_seconds,
        default=WATCH_S,
        help=f"seconds between two looks for a new champion (default: {WATCH_S:g})",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-request-mb",
        type=_whole(1, 1000),
        default=_DEFAULTS.request_bytes // MEGABYTE,
        help=f"megabytes in a request (default: {_DEFAULTS.request_bytes // MEGABYTE})",
    )
    limits.add_argument(
        "--max-images",
        type=_whole(1, 10_000),
        default=_DEFAULTS.images,
        help=f"images in a request (default: {_DEFAULTS.images})",
    )
    limits.add_argument(
        "--max-image-px",
        type=_whole(1, 10**9),
        help="width x height of an image (default: data.max_image_px in params.yaml)",
    )
    limits.add_argument(
        "--time-limit-s",
        type=_seconds,
        default=_DEFAULTS.time_s,
        help=f"seconds from a request's start to its answer (default: {_DEFAULTS.time_s:g})",
    )
    limits.add_argument(
        "--queue",
        type=_whole(1, 10_000),
        default=_DEFAULTS.waiting,
        help=f"requests under way at once; more get 503 (default: {_DEFAULTS.waiting})",
    )


def serve(workspace: Workspace, options: Namespace) -> int:
    """Serves until Ctrl-C or SIGTERM; requests that have begun are answered first.

    Returns:
        The exit code: 0 once interrupted.

    Raises:
        UserError: If the host is not this machine alone.
        ParamsError: If ``params.yaml``, which sets the largest image, is not valid.
        MissingOutputError: If there is no such model.
        ServerError: If the port is taken.
        TrackingError: If the registry cannot be used.
    """
    from graftline.inference.serving.app import Service, application
    from graftline.inference.serving.batching_queue import Desk
    from graftline.inference.serving.champion_watcher import Watcher
    from graftline.inference.serving.metrics import Counters
    from graftline.inference.serving.models import ModelSlot, NamedSource

    _log_to_standard_error(debug=options.debug)
    console = Console(highlight=False, soft_wrap=True)
    limits = _limits(workspace, options)
    workers = using_workers(workers_in(workspace))
    with workers, _listening(options.host, options.port) as listener:
        source = NamedSource(workspace, options.model)
        with console.status("loading the model …"):
            place = ModelSlot(source.load())
        counters = Counters()
        desk = Desk(place, limits, counters)
        watcher = Watcher(source, place, counters, options.watch_s)
        app = application(Service(place, limits, counters, desk, watcher))
        lines = _greeting(place.model, listener, options, source.may_change)
        _run(app, listener, limits, lambda: console.print("\n".join(lines), markup=False))
    console.print(_closing(counters), markup=False)
    return 0


def _run(app: App, listener: socket.socket, limits: Limits, ready: Callable[[], None]) -> None:
    import uvicorn

    from graftline.core.processes import termination_as_interrupt
    from graftline.inference.serving.connections import BACKLOG, bounded_connections

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        # Nothing here asks where a request comes from, so no header needs to be believed.
        proxy_headers=False,
        lifespan="on",
        ws="none",
        loop="asyncio",
        http=bounded_connections(limits),
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(limits.time_s) + 1,
    )
    with termination_as_interrupt():
        try:
            Announcing(config).run(sockets=[listener])
        except KeyboardInterrupt:
            # The server has stopped by now; it only passes on what it was stopped by.
            return


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket on an address of this machine alone."""
    if not is_loopback(host):
        raise UserError(
            f"--host {host} can be reached from other machines",
            allowed="127.0.0.1, ::1 or localhost",
            fix="put a web server with encryption and a login in front, and let it pass requests "
            "on to 127.0.0.1",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host.strip("[]"), port))
        except OSError as error:
            raise ServerError(
                f"port {port} of {host} cannot be used: {error.strerror or error}",
                fix="stop what listens there, or choose another one: --port 0 takes a free one",
            ) from error
        yield listener


def _limits(workspace: Workspace, options: Namespace) -> Limits:
    from graftline.data.image_files import largest_px

    return Limits(
        request_bytes=options.max_request_mb * MEGABYTE,
        images=options.max_images,
        image_px=options.max_image_px or largest_px(workspace),
        time_s=options.time_limit_s,
        waiting=options.queue,
    )


def _greeting(
    model: ServedModel, listener: socket.socket, options: Namespace, may_change: bool
) -> list[str]:
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    classes = counted(len(model.predictor.classes), "class", "classes")
    role = f", {model.role}" if model.role else ""
    lines = [
        f"Serving {model.version}{role}: {classes}, {model.predictor.size_px} px, weights "
        f"{model.version.weight_digest[:12]}",
        f"  page   {address}/",
        f"  API    {address}/docs",
        f"  ask    curl -F image=@photo.png {address}/predict",
    ]
    watched = (
        f"; a new {options.model or 'champion'} is taken within {options.watch_s:g} s"
        if may_change
        else ""
    )
    return [*lines, f"Ctrl-C stops it{watched}."]


def _closing(counters: Counters) -> str:
    answered = counters.count("graftline_images_total", outcome="answered")
    refused = counters.count("graftline_images_total", outcome="refused")
    swaps = counters.count("graftline_model_swaps_total")
    return (
        f"Stopped: {counted(round(answered), 'image')} answered, {refused:,.0f} refused, "
        f"{counted(round(swaps), 'new model')} taken."
    )


def _log_to_standard_error(*, debug: bool) -> None:
    from graftline.inference.serving.connections import Rationed

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    for handler in logging.getLogger().handlers:
        handler.addFilter(Rationed())
    logging.getLogger("graftline").setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0.1 <= seconds <= 3600:
        raise ArgumentTypeError(f"{text!r} is no number of seconds from 0.1 to 3600")
    return seconds
