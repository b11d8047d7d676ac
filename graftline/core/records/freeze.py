"""What ``freeze`` leaves on record."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from graftline.core.checksums import damaged, sha256_text
from graftline.core.records.record import Record

_SEALED = re.compile(r'(.*),\n  "sha256": "([0-9a-f]{64})"\n}\n?', re.DOTALL)


class FreezePlan(Record):
    """``models/freeze_plan.json``: which layers train."""

    strategy: str
    """As a parameter would name it; that which was chosen, if measurement chose it."""
    cut: str
    boundary: str | None
    """The last layer of the frozen prefix: ``pooled`` when the whole backbone is frozen, else a
    layer's name; null when the very first layers train, so that nothing can be cached."""
    trainable: tuple[str, ...]
    """The backbone's layers that train. BatchNormalization is never among them."""
    batch_norm: Literal["keep", "adapt"]
    """Whether BatchNormalization statistics are those of the base weights, or of these images."""
    measured: bool
    """Whether measurement chose it (``auto``), rather than the parameters."""
    reason: str

    # Alone in its folder, it holds its checksum itself: in its last line but one.
    def _text(self) -> str:
        text = super()._text().removesuffix("\n}")
        return f'{text},\n  "sha256": "{sha256_text(text)}"\n}}'

    @classmethod
    def _checked(cls, text: str, path: Path) -> str:
        found = _SEALED.fullmatch(text)
        if found is None or sha256_text(found[1]) != found[2]:
            raise damaged(path, path)
        return f"{found[1]}\n}}"
