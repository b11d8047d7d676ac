"""What training computes in, by what is asked for."""

from __future__ import annotations

import pytest

from graftline.compute import devices
from graftline.core.errors import ParamsError
from graftline.network.precision import training_precision

AMPERE, VOLTA, AMX = (8, 0), (7, 5), "amx_bf16"


@pytest.mark.parametrize(
    ("wanted", "device", "capability", "flags", "used"),
    [
        ("none", "auto", AMPERE, (AMX,), "float32"),
        ("bfloat16", "auto", None, (), "bfloat16"),
        ("auto", "auto", None, (AMX,), "bfloat16"),
        ("auto", "auto", None, ("avx512_bf16",), "float32"),
        ("auto", "auto", AMPERE, (), "bfloat16"),
        ("auto", "auto", VOLTA, (AMX,), "float32"),
        # The cores compute, whatever card there is.
        ("auto", "cpu", AMPERE, (), "float32"),
        ("bfloat16", "cpu", VOLTA, (), "bfloat16"),
    ],
)
def test_auto_asks_what_computes(
    wanted: str,
    device: str,
    capability: tuple[int, int] | None,
    flags: tuple[str, ...],
    used: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine(monkeypatch, capability, flags)
    assert training_precision(wanted, device) == used


def test_a_card_without_bfloat16_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, VOLTA)
    with pytest.raises(ParamsError, match=r"a card \(compute capability 7.5\) does not") as error:
        training_precision("bfloat16", "auto")
    assert "train.mixed_precision" in str(error.value)


def machine(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] | None, flags: tuple[str, ...] = ()
) -> None:
    gpus = () if capability is None else (devices.Gpu("a card", capability),)
    monkeypatch.setattr(devices, "gpus", lambda: gpus)
    monkeypatch.setattr(devices, "cpu_flags", lambda: frozenset(flags))
