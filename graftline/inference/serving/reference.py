"""The reference of the addresses: for OpenAPI, and from it as a page for people."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from graftline.inference.serving.bodies import FORM, JSON
from graftline.inference.serving.page import Page, page

DESCRIPTION = (
    "Names what is on images, with the probability of each class, by a model of Graftline's "
    "registry. Answers are those of `graftline predict --json`, digit for digit. Every error tells "
    "what is wrong, where, what is allowed and what to do."
)
TAGS = [
    {"name": "prediction", "description": "Images in, labels with probabilities out."},
    {"name": "state", "description": "Whether it runs, with which model, and how much it does."},
]
_MODEL = {
    "name": "graftline",
    "version": "3",
    "weight_digest": "9c1e6f0c5f0d4d3f8a52f8be0a6c8a0a8e0d4f6f0b2c4e6a8c0e2f4a6b8c0d2e",
}
_PREDICTION = {
    "file": "photo.png",
    "label": "7",
    "probability": 0.9971,
    "probabilities": {"7": 0.9971, "1": 0.0029},
}
_ERROR = {
    "what": "the request has 20,000,000 bytes, which is too large",
    "where": "body",
    "allowed": "16,000,000 bytes",
    "fix": "send fewer or smaller images at once",
}
_TEXT = {"type": "string"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_MODEL_SCHEMA = {
    "type": "object",
    "required": ["name", "version", "weight_digest"],
    "properties": {
        "name": _TEXT | {"description": "Of the registered model, or of the folder."},
        "version": _TEXT_OR_NULL | {"description": "In the registry; null for a folder."},
        "weight_digest": _TEXT | {"description": "SHA-256 of the weights."},
    },
}
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["what", "where", "allowed", "fix"],
    "properties": {
        "what": _TEXT | {"description": "What is wrong."},
        "where": _TEXT_OR_NULL | {"description": "Header, part or image at fault."},
        "allowed": _TEXT_OR_NULL | {"description": "What would have been accepted."},
        "fix": _TEXT_OR_NULL | {"description": "What to do about it."},
    },
}
_PREDICTION_SCHEMA = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": _TEXT | {"description": "The name that was sent, or images[n]."},
        "label": _TEXT | {"description": "The most probable class."},
        "probability": {"type": "number", "description": "Of the label, from 0 to 1."},
        "probabilities": {
            "type": "object",
            "additionalProperties": {"type": "number"},
            "description": "Of every class, the most probable first.",
        },
        "error": _TEXT | {"description": "In place of the others: why there is no answer."},
    },
}


def _response(
    description: str, schema: dict[str, Any] | None = None, example: Any = None
) -> dict[str, Any]:
    if schema is None:
        return {"description": description}
    return {
        "description": description,
        "content": {JSON: {"schema": schema, "example": example}},
    }


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _error(description: str) -> dict[str, Any]:
    return _response(description, _object(error=_ERROR_SCHEMA), {"error": _ERROR})


PREDICT: dict[str, Any] = {
    "summary": "Names what is on each image",
    "description": "Images as the files of a form, or in base64 as JSON. One that cannot be read "
    "gets an `error` in the place of its label; only if none can be read, the answer is 422. All "
    "images of a request are answered by the same model, which `model` names.",
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                FORM: {
                    "schema": {
                        "type": "object",
                        "description": "Files under any name.",
                        "properties": {
                            "image": {
                                "type": "array",
                                "items": {"type": "string", "format": "binary"},
                            }
                        },
                    }
                },
                JSON: {
                    "schema": _object(
                        images={
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "oneOf": [
                                    {"type": "string", "format": "byte"},
                                    _object(name=_TEXT, data=_TEXT | {"format": "byte"}),
                                ]
                            },
                        }
                    ),
                    "example": {"images": [{"name": "photo.png", "data": "iVBORw0KGgo…"}]},
                },
            },
        }
    },
    "responses": {
        200: _response(
            "An answer for each image, in order.",
            _object(
                model=_MODEL_SCHEMA,
                predictions={"type": "array", "items": _PREDICTION_SCHEMA},
            ),
            {"model": _MODEL, "predictions": [_PREDICTION]},
        ),
        400: _error("The form or the JSON cannot be read."),
        403: _error("The request comes from another machine's page or name."),
        408: _error("The body did not arrive in time."),
        413: _error("The body is too large."),
        415: _error("The body is neither a form nor JSON."),
        422: _error("There is no image, there are too many, or none can be read."),
        503: _error("The server is busy, too slow, or stopping; `Retry-After` tells when to ask."),
    },
}
HEALTH: dict[str, Any] = {
    "summary": "Whether the process runs",
    "responses": {
        200: _response(
            "It does.",
            _object(status=_TEXT, graftline=_TEXT),
            {"status": "ok", "graftline": "0.1.0"},
        )
    },
}
READY: dict[str, Any] = {
    "summary": "Whether predictions are answered",
    "responses": {
        200: _response(
            "They are.",
            _object(status=_TEXT, model=_MODEL_SCHEMA),
            {"status": "ready", "model": _MODEL},
        ),
        503: _response("They are not."),
    },
}
MODEL: dict[str, Any] = {
    "summary": "The model that answers now, and the limits of a request",
    "responses": {
        200: _response(
            "Its version, classes and size.",
            _object(
                model=_MODEL_SCHEMA,
                classes={"type": "array", "items": _TEXT},
                size_px={"type": "integer"},
                limits={"type": "object"},
            ),
            {"model": _MODEL, "classes": ["1", "7"], "size_px": 96, "limits": {"images": 64}},
        )
    },
}
METRICS: dict[str, Any] = {
    "summary": "Counts and seconds, for Prometheus",
    "responses": {200: {"description": "As text.", "content": {"text/plain": {}}}},
}


def as_page(openapi: dict[str, Any]) -> Page:
    """The OpenAPI description as one page that needs nothing from elsewhere."""
    frame = page("docs.html")
    sections = [
        _operation(method, address, operation)
        for address, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    html = frame.html.replace("<!--description-->", _marked(openapi["info"]["description"]))
    return Page(html.replace("<!--operations-->", "\n".join(sections)))


def _operation(method: str, address: str, operation: dict[str, Any]) -> str:
    parts = [
        f"<section><h2><b>{escape(method.upper())}</b> <code>{escape(address)}</code></h2>",
        f"<p>{_marked(operation['summary'])}. {_marked(operation.get('description', ''))}</p>",
    ]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<h3>Takes <code>{escape(kind)}</code></h3>{_content(content)}")
    parts.append("<h3>Answers</h3><dl>")
    for status, response in operation["responses"].items():
        parts.append(f"<dt>{escape(status)}</dt><dd>{_marked(response['description'])}")
        # One error looks like another; the first tells enough.
        if status in ("200", "400"):
            parts += [_content(content) for content in response.get("content", {}).values()]
        parts.append("</dd>")
    return "\n".join([*parts, "</dl></section>"])


def _content(content: dict[str, Any]) -> str:
    example = content.get("example")
    if example is None:
        text = content.get("schema", {}).get("description", "")
        return f"<p>{_marked(text)}</p>" if text else ""
    shown = escape(json.dumps(example, indent=2, ensure_ascii=False), quote=False)
    return f'<pre tabindex="0">{shown}</pre>'


def _marked(text: str) -> str:
    """Text with `code` in it, as HTML."""
    pieces = escape(text, quote=False).split("`")
    return "".join(
        f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces)
    )
