"""The body of a request, within its limits, and the images in it, from a form or from JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from graftline.core.errors import DataError
from graftline.data.decoding import from_base64
from graftline.inference.serving.batching_queue import Sent
from graftline.inference.serving.limits import Limits, RefusedRequestError

FORM, JSON = "multipart/form-data", "application/json"
_DRAINED_TIMES = 4
_MAX_NAME_CHARACTERS = 255


class NamedImage(BaseModel):
    """An image with the name that its answer gets."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=_MAX_NAME_CHARACTERS)]
    data: str = Field(description="The image file's bytes in base64.")


class Question(BaseModel):
    """The images to be named."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # The first error ends it: each of a million wrong values would make two.
    images: Annotated[list[str | NamedImage], FailFast()] = Field(
        description="Image files in base64, each as a text or with a name."
    )


def announced_bytes(request: Request, limits: Limits) -> int | None:
    """The size that the request tells of its body; None if it tells none.

    Raises:
        RefusedRequestError: 413, if it is too large.
    """
    text = request.headers.get("content-length", "")
    if not text.isdecimal():
        return None
    if int(text) > limits.request_bytes:
        raise _too_large(f"{int(text):,} bytes", limits)
    return int(text)


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body, of which no more than allowed is held.

    Raises:
        RefusedRequestError: 413, if it is too large.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.request_bytes:
            raise _too_large("more", limits)
    return bytes(body)


async def drain(request: Request, limits: Limits) -> None:
    """Reads on and forgets it, for as long as it is not too much.

    A client that is still sending when the connection is closed may never see the answer.
    """
    left_bytes = _DRAINED_TIMES * limits.request_bytes
    async for chunk in request.stream():
        left_bytes -= len(chunk)
        if left_bytes < 0:
            return


def sent_images(content_type: str, body: bytes, limits: Limits) -> list[Sent]:
    """The images in a body.

    What is wrong with one of several images is that image's own error. A large body takes a while,
    so this is nothing for the thread of the event loop.

    Args:
        content_type: The request's header.
        body: The whole body.
        limits: How many images there may be.

    Returns:
        At least one.

    Raises:
        RefusedRequestError: 415, 400 or 422, if it is no form and no JSON with images.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == FORM:
        sent = asyncio.run(_from_form(content_type, body, limits))
    elif kind == JSON:
        sent = _from_json(body, limits)
    else:
        raise RefusedRequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the body is {_shown(kind)}" if kind else "the request does not tell what it holds",
            where="header Content-Type",
            allowed=f"{FORM} with image files, or {JSON} with images in base64",
            fix="curl -F image=@photo.png sends a form",
        )
    if not sent:
        raise RefusedRequestError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "there is no image in the request",
            where="body",
            allowed=f"from 1 to {limits.images} images",
            fix="curl -F image=@photo.png sends one",
        )
    if len(sent) > limits.images:
        raise _too_many(f"{len(sent)} images", limits)
    return sent


async def _from_form(content_type: str, body: bytes, limits: Limits) -> list[Sent]:
    async def pieces() -> AsyncIterator[bytes]:
        yield body

    parser = MultiPartParser(
        Headers({"Content-Type": content_type}),
        pieces(),  # type: ignore[arg-type]  # it is only iterated over
        # One more, so that too many are counted here and told in our words.
        max_files=limits.images + 1,
        max_fields=1,
    )
    # What is sent stays in memory: it may be nobody's business, and is within the limit.
    parser.spool_max_size = limits.request_bytes + 1
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise _too_many("more", limits) from error
        raise _no_form(error.message) from error
    # The parser meets broken bytes with almost any exception.
    except Exception as error:
        raise _no_form(str(error) or type(error).__name__) from error
    sent = []
    for field, value in form.multi_items():
        if not isinstance(value, UploadFile):
            raise RefusedRequestError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"the part {_shown(field)} is no file",
                where="form",
                allowed="files, under any name",
                fix="curl -F image=@photo.png sends a file; mind the @",
            )
        sent.append(Sent(value.filename or field, await value.read()))
        await value.close()
    return sent


def _from_json(body: bytes, limits: Limits) -> list[Sent]:
    # Counted before anything is made of them: each value but the first of a list has a comma before
    # it, and base64 has none; an image has at most two values, and a name of so many signs.
    if body.count(b",") > limits.images * (_MAX_NAME_CHARACTERS + 2):
        raise _too_many("more values", limits)
    try:
        question = Question.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        syntax = problem["type"] == "json_invalid"
        place = "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}"
            for part in problem["loc"]
            if part not in ("str", "NamedImage")
        )
        raise RefusedRequestError(
            HTTPStatus.BAD_REQUEST if syntax else HTTPStatus.UNPROCESSABLE_ENTITY,
            problem["msg"],
            where=f"body{_shown(place, quotes=False)}",
            allowed='{"images": ["<base64>", {"name": "photo.png", "data": "<base64>"}, ...]}',
            fix="base64 -w 0 photo.png gives the text of a file",
        ) from error
    return [_decoded(place, image) for place, image in enumerate(question.images)]


def _decoded(place: int, image: str | NamedImage) -> Sent:
    name, text = (f"images[{place}]", image) if isinstance(image, str) else (image.name, image.data)
    try:
        return Sent(name, from_base64(text))
    except DataError as error:
        return Sent(name, b"", error.what)


def _shown(text: str, *, quotes: bool = True) -> str:
    short = text if len(text) <= _MAX_NAME_CHARACTERS else f"{text[:_MAX_NAME_CHARACTERS]}…"
    return repr(short) if quotes else short


def _too_large(found: str, limits: Limits) -> RefusedRequestError:
    return RefusedRequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the request has {found}, which is too large",
        where="body",
        allowed=f"{limits.request_bytes:,} bytes",
        fix="send fewer or smaller images at once (the server's --max-request-mb sets the limit)",
    )


def _too_many(found: str, limits: Limits) -> RefusedRequestError:
    return RefusedRequestError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"the request has {found}, which is too many",
        where="body",
        allowed=f"from 1 to {limits.images} images",
        fix="send several requests (the server's --max-images sets the limit)",
    )


def _no_form(reason: str) -> RefusedRequestError:
    return RefusedRequestError(
        HTTPStatus.BAD_REQUEST,
        f"the form cannot be read: {_shown(reason, quotes=False)}",
        where="body",
        allowed=f"{FORM} as RFC 7578 has it, with its boundary in the header Content-Type",
        fix="curl -F image=@photo.png sends one",
    )
