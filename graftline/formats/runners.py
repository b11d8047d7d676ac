"""Runs exported files by the runtime that each is meant for; all answer in probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from graftline.compute.cores import available_cores
from graftline.core.checksums import verify_all
from graftline.core.records import ExportFormat
from graftline.formats.contract import read_contract
from graftline.formats.exported_network import PROBABILITIES, SIGNATURE
from graftline.network.runners.litert import LiteRunner

_CUDA = "CUDAExecutionProvider"
ONNX_PROVIDERS = (_CUDA, "ROCMExecutionProvider", "CPUExecutionProvider")
"""Of ONNX Runtime, the one that is asked first standing first."""
_SETTINGS = {
    # By itself it takes the convolutions that were the fastest when it tried them, and rounds
    # float32 to TF32.
    _CUDA: {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
}


class OpenModel(Protocol):
    """A model that is open."""

    @property
    def title(self) -> str:
        """Which runtime answers, and on what."""

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """From uint8 (n, height, width, channels) to probabilities (n, classes)."""

    def close(self) -> None:
        """Gives back what the runtime holds."""


def open_exported(format: ExportFormat, path: Path, device: str = "cpu") -> OpenModel:
    """Opens an exported file, on all cores.

    Args:
        format: The file's.
        path: Where it lies.
        device: ``compute.device``: what ONNX Runtime runs it on, where it has a provider for it.

    Raises:
        MissingOutputError: If it is absent or no such file.
    """
    verify_all(path)
    if format == "onnx":
        return _Onnx(path, device)
    if format == "saved_model":
        return _SavedModel(path)
    return _LiteRT(path)


class _LiteRT:
    title = LiteRunner.title

    def __init__(self, path: Path) -> None:
        output = read_contract(path).output
        self._scale, self._zero_point = np.float32(output.scale), np.float32(output.zero_point)
        self._runner = LiteRunner(path)

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        stored = self._runner.run(images).astype(np.float32)
        probabilities: NDArray[np.float32] = (stored - self._zero_point) * self._scale
        return probabilities

    def close(self) -> None:
        self._runner.close()


class _SavedModel:
    title = "TensorFlow"

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        # The function alone does not keep its variables alive.
        self._loaded: Any = tf.saved_model.load(str(path))
        self._function: Any = self._loaded.signatures[SIGNATURE]
        self._constant: Any = tf.constant

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        answers = self._function(images=self._constant(images))
        return np.asarray(answers[PROBABILITIES])

    def close(self) -> None:
        del self._function, self._loaded


class _Onnx:
    def __init__(self, path: Path, device: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        providers = onnx_providers(device)
        if _CUDA in providers:
            # It looks for CUDA where the system has it, and not beside itself in Python's packages.
            onnxruntime.preload_dlls()
        self._session: Any = onnxruntime.InferenceSession(
            str(path), options, providers=[(one, _SETTINGS.get(one, {})) for one in providers]
        )
        # One whose libraries are wanting is passed over without an error.
        self.title = f"ONNX Runtime, {self._session.get_providers()[0]}"
        self._input = self._session.get_inputs()[0].name

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        answers: NDArray[np.float32] = self._session.run(None, {self._input: images})[0]
        return answers

    def close(self) -> None:
        del self._session


def onnx_providers(device: str) -> list[str]:
    """What ONNX Runtime is to run on, the first that works; it must be installed.

    Args:
        device: ``compute.device``: auto, cpu or gpu.
    """
    import onnxruntime

    wanted = ONNX_PROVIDERS[-1:] if device == "cpu" else ONNX_PROVIDERS
    present = onnxruntime.get_available_providers()
    return [one for one in wanted if one in present]
