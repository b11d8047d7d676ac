"""Computing training steps in 16 bits where the machine gains by it; weights stay float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from graftline.compute import devices
from graftline.core.errors import ParamsError
from graftline.network.classifier import CHANGE, LOGITS

_CPU_FLAGS = ("amx_bf16",)
"""As Linux names it. avx512_bf16 alone does not gain: see docs/measurements/finetuning.md."""


def training_precision(wanted: str, device: str) -> str:
    """What to compute in: ``float32`` or ``bfloat16``.

    Args:
        wanted: ``train.mixed_precision``: none, auto or bfloat16.
        device: ``compute.device``: auto, cpu or gpu.

    Raises:
        ParamsError: If bfloat16 is asked for on a GPU that has no instructions for it: cores do
            without, a GPU's library has no convolution then.
    """
    if wanted == "none":
        return "float32"
    on_gpu = devices.resolved_device(device) == "gpu"
    if on_gpu and wanted == "bfloat16" and not devices.gpus()[0].has_bfloat16:
        raise ParamsError(
            f"train.mixed_precision: bfloat16, which {devices.gpus()[0]} does not compute in",
            where="train.mixed_precision",
            allowed="none, and auto, which takes 16 bits where they are there",
            fix="set train.mixed_precision to auto",
        )
    return "bfloat16" if wanted == "bfloat16" or _gains(on_gpu) else "float32"


@contextmanager
def computing_in(precision: str, network: Any) -> Iterator[None]:
    """Lets the network's layers compute in 16 bits while the block runs.

    What is traced inside stays so; what is traced outside, as for validation and export, computes
    in float32. Layers that were made for float32 alone, as that of the logits, keep to it.
    """
    if precision in ("float32", "tensorfloat32"):
        yield
        return
    import keras

    half = keras.DTypePolicy(f"mixed_{precision}")
    changed = [layer for layer in _layers(network) if _may_change(layer)]
    kept = [layer.dtype_policy for layer in changed]
    for layer in changed:
        layer.dtype_policy = half
    try:
        yield
    finally:
        for layer, policy in zip(changed, kept, strict=True):
            layer.dtype_policy = policy


def _gains(on_gpu: bool) -> bool:
    if on_gpu:
        return devices.gpus()[0].has_bfloat16
    return not devices.cpu_flags().isdisjoint(_CPU_FLAGS)


def _layers(network: Any) -> list[Any]:
    return [layer for layer in network._flatten_layers() if not hasattr(layer, "layers")]


def _may_change(layer: Any) -> bool:
    if type(layer).__name__ in _STAYS or layer.name == LOGITS:
        return False
    # 16 bits would round greys, and no GPU turns or shifts images in them.
    return not layer.name.startswith(CHANGE)


_STAYS = ("InputLayer", "Rescaling", "Resizing", "BatchNormalization")
"""Cheap, and exact on what they are given; BatchNormalization divides by small numbers."""
