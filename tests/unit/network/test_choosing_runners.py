"""Which runner computes, by device, precision and machine."""

from __future__ import annotations

import logging

import pytest

from graftline.compute import devices
from graftline.network.runners import choosing
from graftline.network.runners.choosing import Computing, computing_of, gaining, possible

AMPERE, VOLTA, OLD = (8, 0), (7, 5), (6, 1)


def machine(
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...] = (),
    capability: tuple[int, int] | None = None,
    openvino: bool = True,
) -> None:
    gpus = () if capability is None else (devices.Gpu("a card", capability),)
    monkeypatch.setattr(devices, "gpus", lambda: gpus)
    monkeypatch.setattr(devices, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(choosing, "has_openvino", lambda: openvino)


@pytest.mark.parametrize(
    ("flags", "capability", "device", "precision", "expected"),
    [
        ((), None, "auto", "float32", Computing("litert", "float32")),
        ((), None, "auto", "bfloat16", Computing("litert", "float32")),
        (("amx_bf16",), None, "auto", "float32", Computing("litert", "float32")),
        (("amx_bf16",), None, "auto", "bfloat16", Computing("openvino", "bfloat16")),
        ((), AMPERE, "auto", "float32", Computing("keras", "float32")),
        ((), AMPERE, "auto", "bfloat16", Computing("keras", "bfloat16")),
        ((), VOLTA, "auto", "bfloat16", Computing("keras", "float32")),
        ((), VOLTA, "gpu", "float16", Computing("keras", "float16")),
        ((), AMPERE, "cpu", "float32", Computing("litert", "float32")),
        (("amx_bf16",), AMPERE, "cpu", "tensorfloat32", Computing("litert", "float32")),
    ],
)
def test_device_and_precision_choose(
    flags: tuple[str, ...],
    capability: tuple[int, int] | None,
    device: str,
    precision: choosing.ComputedIn,
    expected: Computing,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine(monkeypatch, flags, capability)
    assert computing_of(device, precision) == expected


def test_what_is_faster_follows_from_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, ("amx_bf16",))
    assert gaining(on_gpu=False) == ("bfloat16",)
    machine(monkeypatch, ("avx512_bf16",))
    assert (gaining(on_gpu=False), possible(on_gpu=False)) == ((), ("bfloat16",))
    machine(monkeypatch, ("amx_bf16",), openvino=False)
    assert possible(on_gpu=False) == ()
    found = {}
    for capability in (AMPERE, VOLTA, OLD):
        machine(monkeypatch, capability=capability)
        found[capability] = gaining(on_gpu=True)
    assert found == {AMPERE: ("bfloat16", "tensorfloat32"), VOLTA: ("float16",), OLD: ()}


def test_a_machine_without_16_bits_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine(monkeypatch, ("amx_bf16",), openvino=False)
    with caplog.at_level(logging.WARNING):
        computing_of("auto", "bfloat16")
    assert "trained in bfloat16" in caplog.text
    assert "graftline[openvino]" in caplog.text
