"""Notify: tells a command, a web address or both of a verdict; off unless the parameters name one.

A web address is often a secret, since anybody who knows it may post there. A secret one belongs
into the environment variable ``GRAFTLINE_WEBHOOK``, and no message, log or record repeats more of
an address than its scheme and host.
"""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import json
import logging
import os
import platform
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from graftline.core.environment import WEBHOOK_VARIABLE
from graftline.core.errors import NotificationError, visible
from graftline.core.files import sha256_record
from graftline.core.params import NotifyParams
from graftline.core.processes import ProcessIdentity, end_group
from graftline.core.records import Metrics, Record
from graftline.core.records.register import Registered
from graftline.core.workspace import Workspace

Channel = Literal["command", "webhook"]

FORMAT = 1
"""Raised when a key of the message changes its meaning or goes."""
_SHOWN_CHARACTERS = 300
_SECRET_CHARACTERS = 6
"""Fewer are no secret, and would be found in any text."""
_sending = contextvars.ContextVar("_sending", default=False)


class Delivered(Record):
    """``var/notified.json``: which verdict each channel was told last."""

    lies_at: ClassVar[str] = "var/notified.json"

    verdicts: dict[Channel, str]


def channels(params: NotifyParams, environment: Mapping[str, str] | None = None) -> list[Channel]:
    """Who is to be told; nobody unless a parameter or the environment names one."""
    given = os.environ if environment is None else environment
    found: list[Channel] = []
    if params.command is not None:
        found.append("command")
    if _address(params, given):
        found.append("webhook")
    return found


def message(workspace: Workspace, addresses: Mapping[str, str]) -> dict[str, Any]:
    """What is told: the verdict on the registered model, what it rests on, and where to look.

    Args:
        workspace: Where ``var/registered.json``, ``reports/promotion.json`` (if a champion was
            decided on) and ``reports/metrics.json`` lie.
        addresses: Of the runs' pages and whatever else identifies them.

    Raises:
        MissingOutputError: If no model has been registered here.
    """
    registered = Registered.read_in(workspace)
    promotion = _promotion(workspace, registered)
    verdict = "registered" if promotion is None else str(promotion.get("decision", "decided"))
    return {
        "kind": "graftline.verdict",
        "format": FORMAT,
        "verdict": verdict,
        "text": _text(registered, promotion, verdict),
        "model": {
            "name": registered.model_name,
            "version": registered.version,
            "uri": registered.model_uri,
        },
        "metrics": _metrics(workspace),
        "promotion": promotion,
        "runs": {"mlflow": registered.run_id, **addresses},
        "host": platform.node(),
        "checkout": str(workspace.root),
        "when": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
    }


def notify(
    workspace: Workspace, params: NotifyParams, told: Mapping[str, Any]
) -> tuple[Channel, ...]:
    """Tells each channel that has not been told of this verdict yet.

    Args:
        workspace: Where it is written down who has been told.
        params: Who is to be told, and how long it may take.
        told: The message; see :func:`message`.

    Returns:
        The channels that were told.

    Raises:
        NotificationError: If one of them could not be; the others were, and are not again.
    """
    verdict = sha256_record({key: told[key] for key in ("model", "promotion", "metrics")})
    delivered = Delivered.find_in(workspace)
    known = delivered.verdicts if delivered else {}
    waiting = [one for one in channels(params) if known.get(one) != verdict]
    senders: dict[Channel, Callable[[NotifyParams, str], None]] = {
        "command": _run,
        "webhook": _post,
    }
    text = json.dumps(told, ensure_ascii=False, sort_keys=True)
    failed: list[NotificationError] = []
    for channel in waiting:
        try:
            senders[channel](params, text)
        except NotificationError as error:
            failed.append(error)
            continue
        known = {**known, channel: verdict}
        Delivered(verdicts=known).write(Delivered.path_in(workspace))
    if failed:
        raise failed[0] if len(failed) == 1 else _both(failed)
    return tuple(waiting)


def _run(params: NotifyParams, text: str) -> None:
    """Gives the text to a command's standard input."""
    arguments = shlex.split(params.command or "")
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise _undelivered("the command", f"cannot be started: {error.strerror}") from error
    leader = ProcessIdentity.of(process.pid)
    try:
        _, said = process.communicate(text, timeout=params.timeout_s)
    except subprocess.TimeoutExpired:
        raise _undelivered("the command", f"took longer than {params.timeout_s:g} s") from None
    finally:
        if process.poll() is None:
            end_group(leader, 1.0)
            process.communicate()
    if process.returncode:
        last = visible(_without_secret(said.strip())[-_SHOWN_CHARACTERS:])
        raise _undelivered(
            "the command", f"ended with {process.returncode}{': ' + last if last else ''}"
        )


def _post(params: NotifyParams, text: str) -> None:
    """Posts the text as JSON; only an answer of 2xx counts, and no redirection is followed.

    Of the answer its first line and its headers are read, and no body.
    """
    import httpx

    address = _address(params, os.environ)
    shown = _shown(address)
    if shown is None:
        raise _undelivered("the webhook", "has no address that begins with http:// or https://")

    async def post() -> int:
        async with (
            # Of the whole, since a server could answer byte by byte for ever.
            asyncio.timeout(params.timeout_s),
            httpx.AsyncClient(timeout=None, follow_redirects=False) as client,
            client.stream(
                "POST", address, content=text.encode(), headers={"Content-Type": "application/json"}
            ) as answer,
        ):
            return answer.status_code

    try:
        with _unlogged():
            code = asyncio.run(post())
    except TimeoutError:
        raise _undelivered(shown, f"did not answer within {params.timeout_s:g} s") from None
    # An address or a proxy (HTTPS_PROXY) that is none is answered with almost any exception, and
    # what they say may hold the address.
    except Exception as error:
        raise _undelivered(shown, f"cannot be reached ({type(error).__name__})") from None
    if not 200 <= code < 300:
        raise _undelivered(shown, f"answered {code}")


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keeps the HTTP library from logging the address, as it does on level INFO."""

    def passes(_: logging.LogRecord) -> bool:
        return not _sending.get()

    loggers = [logging.getLogger(name) for name in ("httpx", "httpcore")]
    for logger in loggers:
        logger.addFilter(passes)
    mark = _sending.set(True)
    try:
        yield
    finally:
        _sending.reset(mark)
        for logger in loggers:
            logger.removeFilter(passes)


def _address(params: NotifyParams, environment: Mapping[str, str]) -> str:
    return environment.get(WEBHOOK_VARIABLE, "").strip() or params.webhook or ""


def _shown(address: str) -> str | None:
    """As much of an address as may be told; None if it is no address of the web."""
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return f"the webhook at {parts.scheme}://{parts.hostname}{port}"


def _without_secret(text: str) -> str:
    """Without the secret address, and without what stands in it behind the host."""
    secret = os.environ.get(WEBHOOK_VARIABLE, "").strip()
    behind_host = secret.partition("://")[2].partition("/")[2]
    for one in (secret, behind_host):
        if len(one) >= _SECRET_CHARACTERS:
            text = text.replace(one, f"${WEBHOOK_VARIABLE}")
    return text


def _undelivered(whom: str, how: str) -> NotificationError:
    return NotificationError(
        f"{whom} was not told of the verdict: it {how}",
        where=f"notify in params.yaml, or {WEBHOOK_VARIABLE} in the environment",
        fix="mend it; the next run tells of the verdict if it still stands",
    )


def _both(failed: list[NotificationError]) -> NotificationError:
    first = failed[0]
    return NotificationError(
        "; ".join(error.what for error in failed), where=first.where, fix=first.fix
    )


def _promotion(workspace: Workspace, registered: Registered) -> dict[str, Any] | None:
    """The receipt of the decision on this very version, word for word."""
    path = workspace.promotion
    try:
        receipt = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(receipt, dict):
        return None
    decided = (receipt.get("model_name"), receipt.get("challenger_version"))
    return receipt if decided == (registered.model_name, registered.version) else None


def _text(registered: Registered, promotion: dict[str, Any] | None, verdict: str) -> str:
    model = f"{registered.model_name} version {registered.version}"
    if promotion is None:
        return f"{model} was registered as {registered.alias}"
    reason = promotion.get("reason")
    told = {
        "promoted": f"{model} is the new champion",
        "kept": f"{model} was not made the champion",
    }.get(verdict, f"{model}: {verdict}")
    return f"{told}: {reason}" if reason else told


def _metrics(workspace: Workspace) -> dict[str, Any] | None:
    metrics = Metrics.find_in(workspace)
    return (
        None
        if metrics is None
        else metrics.model_dump(
            mode="json",
            include={
                "test_images",
                "test_accuracy",
                "test_accuracy_low",
                "test_accuracy_high",
                "majority_baseline",
                "expected_calibration_error",
            },
        )
    )
