"""Downloads: https only, checked by SHA-256, in place whole or not at all."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from graftline.core.errors import DownloadError
from graftline.core.files import replacing_file
from graftline.core.loopback import is_loopback
from graftline.core.progress import progress
from graftline.core.redaction import without_secrets

if TYPE_CHECKING:
    import requests

_CONNECT_S, _READ_S = 10.0, 60.0
_RETRIES = 3
_BACKOFF_S = 0.5
_TRANSIENT = (429, 500, 502, 503, 504)
_CHUNK_BYTES = 1 << 20
MAX_BYTES = 4 << 30
"""Twice the largest file of weights that there is to fetch."""
LIMIT_S = 7200.0
"""A slow line takes half an hour for a gigabyte; what drips in is not waited for."""
_OFFLINE = "check the connection; to work offline, put the file in place yourself"


def fetch(
    url: str,
    target: Path,
    sha256: str | None,
    *,
    max_bytes: int = MAX_BYTES,
    limit_s: float = LIMIT_S,
) -> str:
    """Downloads a file and moves it into place if it is the right one.

    What can fail by itself (a connection, an overloaded server) is tried up to four times. An
    address of this machine may be http; any other, redirects included, must be https.

    Args:
        url: The address.
        target: Where the file goes; on any error it stays as it was.
        sha256: What the file must be, in hexadecimal; None to take what comes.
        max_bytes: The largest file that is taken, unpacked if it is sent packed.
        limit_s: Seconds for all of it; both limits are looked at while it comes in.

    Returns:
        The SHA-256 of what was downloaded.

    Raises:
        DownloadError: If the address is not https, cannot be reached, sends something else, or
            sends more or longer than allowed.
        StorageFullError: If the disk is full.
    """
    import requests
    import urllib3

    _refuse_open_address(url)
    try:
        with _session(url) as session, replacing_file(target) as temporary:
            found = _received(session, url, temporary, max_bytes, limit_s)
            if sha256 is not None and found != sha256.lower():
                raise DownloadError(
                    f"the file at this address is not the right one: SHA-256 {found}",
                    where=without_secrets(url),
                    allowed=f"SHA-256 {sha256}",
                    fix="it changed, or something on the way altered it; get it elsewhere, or "
                    "correct the SHA-256 if you trust the new file",
                )
            return found
    except requests.exceptions.InvalidSchema as error:
        raise DownloadError(
            without_secrets(f"the address leads on to one that is not https: {error}"),
            where=without_secrets(url),
            allowed="https",
        ) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise DownloadError(
            without_secrets(f"the download failed: {_reason(error)}"),
            where=without_secrets(url),
            fix=_OFFLINE,
        ) from error


def _received(
    session: requests.Session, url: str, temporary: Path, max_bytes: int, limit_s: float
) -> str:
    digest, size_bytes, until_s = hashlib.sha256(), 0, time.monotonic() + limit_s
    most = f"{max_bytes:,} bytes"
    with session.get(url, stream=True, timeout=(_CONNECT_S, _READ_S)) as response:
        response.raise_for_status()
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        name = temporary.name.strip(".").rpartition(".")[0].rpartition(".")[0]
        with temporary.open("wb") as file, progress(f"download {name}", total, "bytes") as bar:
            if total is not None and total > max_bytes:
                raise _too_much(url, f"has {total:,} bytes", most)
            # What has arrived, as it arrives: waiting for a whole piece could take for ever.
            while piece := response.raw.read1(_CHUNK_BYTES, decode_content=True):
                size_bytes += len(piece)
                if size_bytes > max_bytes:
                    raise _too_much(url, f"goes on after {max_bytes:,} bytes", most)
                if time.monotonic() > until_s:
                    told = f"is not whole after {limit_s:g} s ({size_bytes:,} bytes)"
                    raise _too_much(url, told, f"{limit_s:g} s")
                file.write(piece)
                digest.update(piece)
                bar.advance(len(piece))
    return digest.hexdigest()


def _too_much(url: str, told: str, allowed: str) -> DownloadError:
    return DownloadError(
        f"the file at this address {told}",
        where=without_secrets(url),
        allowed=f"at most {allowed}",
        fix="download it by other means, if it is meant, and name the file's path instead",
    )


def _session(url: str) -> requests.Session:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    retry = Retry(
        total=_RETRIES,
        backoff_factor=_BACKOFF_S,
        status_forcelist=_TRANSIENT,
        allowed_methods=["GET"],
    )
    session = requests.Session()
    # Without an adapter for http a redirect to it is refused.
    del session.adapters["http://"]
    session.mount("https://", HTTPAdapter(max_retries=retry))
    parts = urlsplit(url)
    if parts.scheme == "http":
        session.mount(f"http://{parts.netloc}/", HTTPAdapter(max_retries=retry))
    return session


def _refuse_open_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and is_loopback(parts.hostname or ""):
        return
    raise DownloadError(
        f"{without_secrets(url)!r} is no https address",
        where=without_secrets(url),
        allowed="an address that starts with https://",
    )


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "the server did not answer in time"
    if isinstance(error, requests.ConnectionError):
        # Below lies what happened; around it, how often it was tried and on which connection.
        cause = str(getattr(error.args[0], "reason", error)) if error.args else str(error)
        return f"the server cannot be reached ({cause.rpartition(': ')[2]})"
    return str(error)
