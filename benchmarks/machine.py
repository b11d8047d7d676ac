"""What a measurement was taken on: the machine, the versions, and its own fastest arithmetic."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from graftline.compute.cores import available_cores

PACKAGES = (
    "tensorflow",
    "keras",
    "ai-edge-litert",
    "onnxruntime",
    "openvino",
    "tf2onnx",
    "numpy",
    "prefect",
    "dvc",
    "mlflow",
)
_SIZE = 2048
_TURNS = 6


def description() -> dict[str, Any]:
    """The machine and the versions, as results keep them."""
    return {
        "processor": _processor(),
        "cores": available_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def sentence(machine: dict[str, Any]) -> str:
    """The machine and the versions in words."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gb']} GB, "
        f"{machine['system']}; Python {machine['python']}, {versions}"
    )


def load() -> float:
    """How many processes have wanted a core in the last minute, on average."""
    return round(os.getloadavg()[0], 2)


def matmul_peak_gflops() -> dict[str, float]:
    """The fastest float32 matrix multiplication of NumPy and of TensorFlow, on all cores.

    Returns:
        By library, 10^9 multiplications and additions per second: the best of several turns.
    """
    import tensorflow as tf

    left = np.random.default_rng(0).random((_SIZE, _SIZE), dtype=np.float32)
    tensor = tf.constant(left)
    ways: dict[str, Callable[[], Any]] = {
        "NumPy": lambda: left @ left,
        "TensorFlow": lambda: tf.matmul(tensor, tensor).numpy(),
    }
    seconds = {name: min(_seconds(way) for _ in range(_TURNS)) for name, way in ways.items()}
    return {name: round(2 * _SIZE**3 / best_s / 1e9, 1) for name, best_s in seconds.items()}


def _seconds(way: Callable[[], Any]) -> float:
    started_s = time.perf_counter()
    way()
    return time.perf_counter() - started_s


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
