"""The section ``notify``: who is told of each verdict."""

from __future__ import annotations

import shlex
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from graftline.core.params.fields import Section, shown
from graftline.core.redaction import names_a_user


def _plain_address(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the address must begin with http:// or https:// and name a host")
    if names_a_user(address) or parts.query or parts.fragment:
        # The value is not repeated, for it may be a secret.
        raise ValueError(
            "the address holds what may be a secret (a user, a password, a query), and parameters "
            "are shown in Prefect and MLflow; put it into the environment as GRAFTLINE_WEBHOOK"
        )
    return address


def _command_line(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"got {shown(command)}, which is no command line: {error}") from error
    if not words:
        raise ValueError("the command is empty; null turns it off")
    return command


class NotifyParams(Section):
    """Who is told of each verdict; nobody by default. See docs/events.md."""

    command: Annotated[str, AfterValidator(_command_line)] | None = Field(
        default=None,
        description="A command that gets the verdict as JSON on its standard input. No shell "
        "reads it.",
    )
    webhook: Annotated[str, AfterValidator(_plain_address)] | None = Field(
        default=None,
        description="A web address that the verdict is posted to as JSON. One that is a secret "
        "belongs into the environment variable GRAFTLINE_WEBHOOK, which comes first.",
    )
    timeout_s: float = Field(
        default=10.0, gt=0, le=600, description="How long each try may take, seconds."
    )
