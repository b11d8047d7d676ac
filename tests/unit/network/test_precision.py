"""What training computes in, by what is asked for."""

from __future__ import annotations

import pytest

from graftline.network import precision
from graftline.network.precision import training_precision


@pytest.mark.parametrize(
    ("wanted", "gains", "used"),
    [
        ("none", True, "float32"),
        ("bfloat16", False, "bfloat16"),
        ("auto", True, "bfloat16"),
        ("auto", False, "float32"),
    ],
)
def test_auto_asks_the_machine(
    wanted: str, gains: bool, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_has_bfloat16", lambda: gains)
    assert training_precision(wanted) == used
