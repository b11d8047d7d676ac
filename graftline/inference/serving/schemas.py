"""What the addresses take and answer: the answers are made of these, and FastAPI tells of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from graftline.inference.serving.bodies import FORM, JSON

DESCRIPTION = (
    "Names what is on images, with the probability of each class, by a model of Graftline's "
    "registry. Answers are those of `graftline predict --json`, digit for digit. Every error tells "
    "what is wrong, where, what is allowed and what to do."
)
TAGS = [
    {"name": "prediction", "description": "Images in, labels with probabilities out."},
    {"name": "state", "description": "Whether it runs, with which model, and how much it does."},
]


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AnsweringModel(_Schema):
    """The model that answered."""

    name: str = Field(description="Of the registered model, or of the folder.")
    version: str | None = Field(description="In the registry; null for a folder.", examples=["3"])
    weight_digest: str = Field(description="SHA-256 of the weights.")


class Predicted(_Schema):
    """One image's answer: a label with probabilities, or an error in their place."""

    file: str = Field(description="The name that was sent, or images[n].", examples=["photo.png"])
    label: str | None = Field(default=None, description="The most probable class.", examples=["1"])
    probability: float | None = Field(
        default=None, description="Of the label, from 0 to 1.", examples=[0.9971]
    )
    probabilities: dict[str, float] | None = Field(
        default=None,
        description="Of every class, the most probable first.",
        examples=[{"1": 0.9971, "7": 0.0029}],
    )
    error: str | None = Field(
        default=None, description="In place of the others: why there is no answer."
    )


class Answered(_Schema):
    """An answer for each image, in order."""

    model: AnsweringModel
    predictions: list[Predicted]


class Problem(_Schema):
    """What went wrong."""

    what: str = Field(description="What is wrong.")
    where: str | None = Field(description="Header, part or image at fault.", examples=["body"])
    allowed: str | None = Field(description="What would have been accepted.")
    fix: str | None = Field(description="What to do about it.")


class Refused(_Schema):
    """Every answer that is an error."""

    error: Problem


class Health(_Schema):
    """That the process runs."""

    status: Literal["ok"]
    graftline: str = Field(description="Its version.")


class Ready(_Schema):
    """That predictions are answered."""

    status: Literal["ready"]
    model: AnsweringModel


class Limit(_Schema):
    """The limits of a request."""

    request_bytes: int
    images: int
    image_px: int
    time_s: float


class Served(_Schema):
    """The model that answers now."""

    model: AnsweringModel
    classes: list[str] = Field(examples=[["1", "7"]])
    size_px: int
    drawings: bool = Field(
        description="Whether it was trained on grey drawings, so that the page has a drawing area."
    )
    limits: Limit


def _refusals(descriptions: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Refused, "description": d} for status, d in descriptions.items()}


PREDICT: dict[str, Any] = {
    "summary": "Names what is on each image",
    "description": "Images as the files of a form, or in base64 as JSON. One that cannot be read "
    "gets an `error` in the place of its label; only if none can be read, the answer is 422. All "
    "images of a request are answered by the same model, which `model` names.",
    "response_model": Answered,
    "response_description": "An answer for each image, in order.",
    "responses": _refusals(
        {
            400: "The form or the JSON cannot be read.",
            403: "The request comes from another machine's page or name.",
            408: "The body did not arrive in time.",
            413: "The body is too large.",
            415: "The body is neither a form nor JSON.",
            422: "There is no image, there are too many, or none can be read.",
            503: "The server is busy, too slow, or stopping; `Retry-After` tells when to ask.",
        }
    ),
    # The body is read by hand, within its limits, so FastAPI does not see what it holds.
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                FORM: {
                    "schema": {
                        "type": "object",
                        "description": "Files under any name.",
                        "additionalProperties": {"type": "string", "format": "binary"},
                    }
                },
                JSON: {
                    "schema": {
                        "type": "object",
                        "required": ["images"],
                        "properties": {
                            "images": {
                                "type": "array",
                                "minItems": 1,
                                "description": "Base64 texts, or objects with `name` and `data`.",
                                "items": {"type": ["string", "object"]},
                            }
                        },
                    },
                    "example": {"images": [{"name": "photo.png", "data": "iVBORw0KGgo…"}]},
                },
            },
        }
    },
}
HEALTH: dict[str, Any] = {
    "summary": "Whether the process runs",
    "response_model": Health,
    "response_description": "It does.",
}
READY: dict[str, Any] = {
    "summary": "Whether predictions are answered",
    "response_model": Ready,
    "response_description": "They are.",
    "responses": {503: {"description": "They are not."}},
}
MODEL: dict[str, Any] = {
    "summary": "The model that answers now, and the limits of a request",
    "response_model": Served,
    "response_description": "Its version, classes and size.",
}
METRICS: dict[str, Any] = {
    "summary": "Counts and seconds, for Prometheus",
    "responses": {200: {"description": "As text.", "content": {"text/plain": {}}}},
}
