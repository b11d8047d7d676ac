"""The HTTP application: what each address answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from graftline import __version__
from graftline.data.decoding import KNOWN
from graftline.inference.serving import schemas
from graftline.inference.serving.batching_queue import Answer, Desk, too_slow
from graftline.inference.serving.bodies import announced_bytes, drain, read_body, sent_images
from graftline.inference.serving.champion_watcher import Watcher
from graftline.inference.serving.docs_page import docs_page
from graftline.inference.serving.limits import Admission, Limits, RefusedRequestError, error_body
from graftline.inference.serving.metrics import CONTENT_TYPE, Counters
from graftline.inference.serving.models import ModelSlot, ModelVersion
from graftline.inference.serving.page import page
from graftline.inference.serving.request_guard import (
    App,
    Guard,
    error_response,
    fault_response,
    json_response,
)

_DRAIN_S = 5.0


@dataclass(frozen=True)
class Service:
    """All that answers requests.

    Args:
        place: The model's.
        limits: Of requests.
        counters: Of what happens.
        desk: The queue and its workers.
        watcher: What puts new models into the place.
    """

    place: ModelSlot
    limits: Limits
    counters: Counters
    desk: Desk
    watcher: Watcher


def application(service: Service) -> App:
    """The ASGI application; it starts and stops the service's threads."""
    admission = Admission(service.limits)
    service.counters.ask(lambda: service.desk.waiting, lambda: admission.requests)
    service.counters.serves(service.place.model.version)

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        service.desk.start()
        service.watcher.start()
        yield
        # Every request has its answer by now, or its client has gone.
        await asyncio.to_thread(service.watcher.stop)
        await asyncio.to_thread(service.desk.close)
        service.place.close()

    app = FastAPI(
        title="Graftline",
        version=__version__,
        description=schemas.DESCRIPTION,
        openapi_tags=schemas.TAGS,
        # The usual pages for people fetch their scripts from elsewhere; ours does not.
        docs_url=None,
        redoc_url=None,
        lifespan=running,
    )
    _add_prediction(app, service, admission)
    _add_state(app, service)
    _add_pages(app)
    _add_errors(app)
    paths = frozenset(getattr(route, "path", "") for route in app.routes)
    return Guard(app, service.counters, paths)


def _add_prediction(app: FastAPI, service: Service, admission: Admission) -> None:
    limits = service.limits

    @app.post("/predict", tags=["prediction"], **schemas.PREDICT)
    async def predict(request: Request) -> Response:
        try:
            with admission.admitted(announced_bytes(request, limits)):
                answer = await _answered(request, service)
        except RefusedRequestError as error:
            # What has not come in all that time will not come now.
            if error.status != HTTPStatus.REQUEST_TIMEOUT:
                await _drained(request, limits)
            raise
        broken = [one for one in answer.predictions if one.error is not None]
        service.counters.predicted(len(answer.predictions) - len(broken), len(broken))
        record = schemas.Answered(
            model=_version(answer.model),
            predictions=[schemas.Predicted(**one.to_record()) for one in answer.predictions],
        ).model_dump(exclude_unset=True)
        if len(broken) < len(answer.predictions):
            return json_response(record)
        told = error_body(
            f"none of the {len(broken)} images could be read; the first one {broken[0].error}",
            where=broken[0].file,
            allowed=f"whole image files ({KNOWN}) of up to {limits.image_px:,} pixels",
            fix="open the file with an image viewer; send it as it lies on the disk",
        )
        return json_response(told | record, HTTPStatus.UNPROCESSABLE_ENTITY)


async def _answered(request: Request, service: Service) -> Answer:
    limits = service.limits
    until_s = time.monotonic() + limits.time_s
    reading = True
    try:
        async with asyncio.timeout(limits.time_s):
            body = await read_body(request, limits)
            reading = False
            kind = request.headers.get("content-type", "")
            sent = await asyncio.to_thread(sent_images, kind, body, limits)
            del body
            return await asyncio.wrap_future(service.desk.submit(sent, until_s))
    except TimeoutError as error:
        if not reading:
            raise too_slow(limits, "queue") from error
        raise RefusedRequestError(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the request's body did not arrive within {limits.time_s:g} s",
            where="body",
            fix="send fewer or smaller images at once",
        ) from error


async def _drained(request: Request, limits: Limits) -> None:
    try:
        async with asyncio.timeout(_DRAIN_S):
            await drain(request, limits)
    # What was read before, or will never come, needs no draining.
    except (TimeoutError, RuntimeError, ClientDisconnect):
        return


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/health", tags=["state"], **schemas.HEALTH)
    async def health() -> Response:
        return _told(schemas.Health(status="ok", graftline=__version__))

    @app.get("/ready", tags=["state"], **schemas.READY)
    async def ready() -> Response:
        if service.desk.works:
            return _told(schemas.Ready(status="ready", model=_version(service.place.model.version)))
        told = error_body(
            "the server does not answer predictions", fix="ask again, or start it again"
        )
        return json_response({"status": "not ready"} | told, HTTPStatus.SERVICE_UNAVAILABLE)

    @app.get("/model", tags=["state"], **schemas.MODEL)
    async def model() -> Response:
        served, limits = service.place.model, service.limits
        return _told(
            schemas.Served(
                model=_version(served.version),
                classes=list(served.predictor.classes),
                size_px=served.predictor.size_px,
                drawings=served.predictor.drawings,
                limits=schemas.Limit(
                    request_bytes=limits.request_bytes,
                    images=limits.images,
                    image_px=limits.image_px,
                    time_s=limits.time_s,
                ),
            )
        )

    @app.get("/metrics", tags=["state"], **schemas.METRICS)
    async def metrics() -> Response:
        return Response(service.counters.text(), media_type=CONTENT_TYPE)


def _version(model: ModelVersion) -> schemas.AnsweringModel:
    return schemas.AnsweringModel(**model.to_record())


def _told(answer: BaseModel) -> Response:
    return json_response(answer.model_dump())


def _add_pages(app: FastAPI) -> None:
    front = page("page.html")

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return front.response()

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return docs_page(app.openapi()).response()


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RefusedRequestError)
    async def refused(_: Request, error: RefusedRequestError) -> Response:
        return error_response(error)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        # It is raised again behind this answer, and the guard tells of it in the log.
        return fault_response()

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return json_response(error_body("the request ended early"), HTTPStatus.BAD_REQUEST)

    @app.exception_handler(HTTPException)
    async def no_such(request: Request, error: HTTPException) -> Response:
        addresses = [one for one in sorted(app.openapi()["paths"]) if one != "/predict"]
        told = error_body(
            f"{error.detail}: {request.method} {request.url.path}",
            where="address",
            allowed=f"POST /predict; GET {', '.join(addresses)}",
            fix="GET /docs tells of each",
        )
        return json_response(told, error.status_code, dict(error.headers or {}))
