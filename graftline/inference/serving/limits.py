"""The limits of one request, and of all together; and the error of a request beyond them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from graftline.core.errors import UserError
from graftline.core.params import MAX_IMAGE_PX

MEGABYTE = 1_000_000
_HELD_REQUESTS_BYTES = 256 * MEGABYTE
RETRY_AFTER_S = 1


@dataclass(frozen=True)
class Limits:
    """What a server accepts.

    Args:
        request_bytes: Of one request's body.
        images: In one request.
        image_px: Width x height of one image, told by its header before anything is decoded.
        time_s: From a request's first byte to its answer.
        waiting: Requests that are read, waiting or computed at once; one more gets 503.
    """

    request_bytes: int = 16 * MEGABYTE
    images: int = 64
    image_px: int = MAX_IMAGE_PX
    time_s: float = 30.0
    waiting: int = 64

    @property
    def held_bytes(self) -> int:
        """What the bodies of all requests may hold together."""
        return max(_HELD_REQUESTS_BYTES, self.request_bytes)


DECODED_BYTES = 1 << 30
"""What decoding may take at once, or what one image takes that is larger."""
BYTES_PER_PX = 32
"""While an image of 16 bits with colours and transparency is decoded; others take less."""


class Room:
    """Memory that all decoding shares: what does not fit waits until others have let go.

    Args:
        size_bytes: How much there is. What asks for more gets all of it.
    """

    def __init__(self, size_bytes: int = DECODED_BYTES) -> None:
        self._size_bytes, self._held_bytes = size_bytes, 0
        self._changed = threading.Condition()

    @contextmanager
    def held(self, size_bytes: int, until_s: float) -> Iterator[bool]:
        """Holds some of it while the block runs.

        Args:
            size_bytes: How much.
            until_s: Until when to wait for it, on the clock of ``time.monotonic``.

        Yields:
            Whether there was room in time; if not, nothing is held.
        """
        wanted = min(size_bytes, self._size_bytes)
        with self._changed:
            fits = self._changed.wait_for(
                lambda: self._held_bytes + wanted <= self._size_bytes,
                max(0.0, until_s - time.monotonic()),
            )
            self._held_bytes += wanted * fits
        try:
            yield fits
        finally:
            with self._changed:
                self._held_bytes -= wanted * fits
                self._changed.notify_all()


class RefusedRequestError(UserError):
    """A request that is answered with an error.

    Args:
        status: HTTP's.
        what: What is wrong with it.
        retry_after_s: When it may be sent again as it is; None if it may not.
        close: Whether nothing more is read on its connection.
        **told: ``where``, ``allowed`` and ``fix``, as all errors have them.
    """

    def __init__(
        self,
        status: HTTPStatus,
        what: str,
        *,
        retry_after_s: int | None = None,
        close: bool = False,
        **told: str | None,
    ) -> None:
        super().__init__(what, **told)
        self.status = status
        self.retry_after_s = retry_after_s
        self.close = close

    @property
    def body(self) -> dict[str, Any]:
        """As the client gets it."""
        return error_body(self.what, self.where, self.allowed, self.fix)

    @property
    def headers(self) -> dict[str, str]:
        """Besides the usual ones."""
        again = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return again | ({"Connection": "close"} if self.close else {})


def error_body(
    what: str, where: str | None = None, allowed: str | None = None, fix: str | None = None
) -> dict[str, Any]:
    """An error as every answer that is one has it."""
    return {"error": {"what": what, "where": where, "allowed": allowed, "fix": fix}}


class Admission:
    """Counts what is under way, and lets nothing in beyond the limits.

    Used by the event loop alone, so it needs no lock.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.requests = 0
        self.held_bytes = 0

    @contextmanager
    def admitted(self, announced_bytes: int | None) -> Iterator[None]:
        """Holds a place while the block runs.

        Args:
            announced_bytes: The body's size as the request tells it; None if it does not.

        Raises:
            RefusedRequestError: 503, if there is no place.
        """
        size_bytes = self._limits.request_bytes if announced_bytes is None else announced_bytes
        if (
            self.requests >= self._limits.waiting
            or self.held_bytes + size_bytes > self._limits.held_bytes
        ):
            raise RefusedRequestError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"the server is busy with {self.requests} requests",
                allowed=f"{self._limits.waiting} requests at once, of "
                f"{self._limits.held_bytes:,} bytes together",
                fix=f"send it again after {RETRY_AFTER_S} s (header Retry-After)",
                retry_after_s=RETRY_AFTER_S,
            )
        self.requests += 1
        self.held_bytes += size_bytes
        try:
            yield
        finally:
            self.requests -= 1
            self.held_bytes -= size_bytes
