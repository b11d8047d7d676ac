"""The OpenAPI description as one page for people, which needs nothing from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from graftline.inference.serving.page import Page, page

_SAMPLES = {"string": "…", "integer": 0, "number": 0.0, "boolean": True}


def docs_page(openapi: dict[str, Any]) -> Page:
    """The page.

    Args:
        openapi: The description for programs, as FastAPI gives it.
    """
    schemas = openapi["components"]["schemas"]
    sections = [
        _operation(method, address, operation, schemas)
        for address, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    html = page("docs.html").html
    html = html.replace("<!--description-->", _marked(openapi["info"]["description"]))
    return Page(html.replace("<!--operations-->", "\n".join(sections)))


def _operation(
    method: str, address: str, operation: dict[str, Any], schemas: dict[str, Any]
) -> str:
    parts = [
        f"<section><h2><b>{escape(method.upper())}</b> <code>{escape(address)}</code></h2>",
        f"<p>{_marked(operation['summary'])}. {_marked(operation.get('description', ''))}</p>",
    ]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<h3>Takes <code>{escape(kind)}</code></h3>{_content(content, schemas)}")
    parts.append("<h3>Answers</h3><dl>")
    for status, response in operation["responses"].items():
        parts.append(f"<dt>{escape(status)}</dt><dd>{_marked(response['description'])}")
        # One error looks like another; the first tells enough.
        if status in ("200", "400"):
            parts += [
                _content(content, schemas) for content in response.get("content", {}).values()
            ]
        parts.append("</dd>")
    return "\n".join([*parts, "</dl></section>"])


def _content(content: dict[str, Any], schemas: dict[str, Any]) -> str:
    schema = content.get("schema", {})
    if "example" not in content and "$ref" not in schema:
        text = schema.get("description", "")
        return f"<p>{_marked(text)}</p>" if text else ""
    example = content.get("example") or _sample(schema, schemas)
    shown = escape(json.dumps(example, indent=2, ensure_ascii=False), quote=False)
    return f'<pre tabindex="0">{shown}</pre>'


def _sample(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """A value as the schema has it: its example, or one of its type."""
    if "$ref" in schema:
        return _sample(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if "anyOf" in schema:
        return _sample(schema["anyOf"][0], schemas)
    if schema["type"] == "array":
        return [_sample(schema["items"], schemas)]
    if schema["type"] == "object":
        # What may be absent, and has no example, is told by the text alone.
        return {
            name: _sample(one, schemas)
            for name, one in schema["properties"].items()
            if name in schema["required"] or "examples" in one
        }
    return _SAMPLES[schema["type"]]


def _marked(text: str) -> str:
    """Text with `code` in it, as HTML."""
    pieces = escape(text, quote=False).split("`")
    return "".join(
        f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces)
    )
