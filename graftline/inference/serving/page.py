"""Pages in one file: their scripts and styles are known by hash, and nothing else may run."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

from starlette.responses import HTMLResponse

_INLINE = "<{0}>(.*?)</{0}>"


@dataclass(frozen=True)
class Page:
    """A page and the policy under which a browser shows it.

    Args:
        html: The whole page; its scripts and styles stand in it, in ``<script>`` and ``<style>``.
    """

    html: str

    @property
    def policy(self) -> str:
        """The Content-Security-Policy: this page's own script and style, and only this server."""
        return "; ".join(
            [
                "default-src 'none'",
                f"script-src {self._hashes('script')}",
                f"style-src {self._hashes('style')}",
                "img-src 'self' blob: data:",
                "connect-src 'self'",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            ]
        )

    def response(self) -> HTMLResponse:
        """The answer with the page."""
        return HTMLResponse(self.html, headers={"Content-Security-Policy": self.policy})

    def _hashes(self, tag: str) -> str:
        found = re.findall(_INLINE.format(tag), self.html, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()) for one in found]
        return " ".join(f"'sha256-{digest.decode()}'" for digest in digests) or "'none'"


def page(name: str) -> Page:
    """A page that comes with the package."""
    return Page((files("graftline.inference.serving") / name).read_text(encoding="utf-8"))
