"""Which runner computes: by the device and the precision, and by what this machine can."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from graftline.compute import devices
from graftline.core.records import ComputedIn
from graftline.network.runners.runner import Runner

RunnerName = Literal["litert", "keras", "openvino"]

_LOG = logging.getLogger(__name__)
_CPU_FLAGS = ("amx_bf16", "avx512_bf16")
_GAINING_FLAGS = ("amx_bf16",)
_VOLTA = (7, 0)


@dataclass(frozen=True)
class Computing:
    """A runner and what it computes in; it can be sent to another process.

    Args:
        runner: Which one.
        precision: What the frozen part computes in.
    """

    runner: RunnerName = "litert"
    precision: ComputedIn = "float32"

    @property
    def takes_litert(self) -> bool:
        """Whether it opens LiteRT files, rather than graphs of TensorFlow."""
        return self.runner != "keras"

    @property
    def ending(self) -> str:
        """Of the names of its files."""
        return ".tflite" if self.takes_litert else ".pb"

    def __str__(self) -> str:
        return f"{_TITLES[self.runner]} in {self.precision}"

    def convert(self, function: Any, network: Any, path: Path) -> None:
        """Writes a network as a file for :meth:`open`.

        Args:
            function: From a uint8 tensor (n, height, width, channels) to one float32 tensor, or to
                several.
            network: The Keras model in it that computes in the precision.
            path: The file; its name has the :attr:`ending`.
        """
        if self.takes_litert:
            from graftline.network.keras_io import convert_to_litert

            path.write_bytes(convert_to_litert(function))
        else:
            from graftline.network.runners.keras_graph import convert_to_graph

            path.write_bytes(convert_to_graph(function, network, self.precision))

    def open(self, path: Path) -> Runner:
        """Opens a file that :meth:`convert` has written.

        Raises:
            DamagedFileError: If its folder lists another checksum for it.
            MissingOutputError: If the file is absent or no such model.
        """
        if self.runner == "keras":
            from graftline.network.runners.keras_graph import KerasRunner

            return KerasRunner(path, self.precision)
        if self.runner == "openvino":
            from graftline.network.runners.openvino import OpenVinoRunner

            return OpenVinoRunner(path)
        from graftline.network.runners.litert import LiteRunner

        return LiteRunner(path)


LITERT = Computing()


def computing_of(device: str, precision: ComputedIn) -> Computing:
    """How a network of some precision runs here.

    A model that was made where 16 bits are fast has to answer everywhere: where they are not, it
    computes in float32, and a line says so.

    Args:
        device: ``compute.device``: auto, cpu or gpu.
        precision: As recorded.

    Raises:
        ParamsError: If a GPU is asked for, and there is none that TensorFlow can use.
    """
    on_gpu = devices.resolved_device(device) == "gpu"
    if precision != "float32" and precision not in possible(on_gpu):
        _LOG.warning(
            "this model was trained in %s, which %s; it answers in float32 here",
            precision,
            what_it_takes(on_gpu),
        )
        precision = "float32"
    if on_gpu:
        return Computing("keras", precision)
    return Computing("litert" if precision == "float32" else "openvino", precision)


def possible(on_gpu: bool) -> tuple[ComputedIn, ...]:
    """What else than float32 this machine can compute in, whether it gains or not."""
    if on_gpu:
        return _of_gpu(devices.gpus()[0])
    return ("bfloat16",) if _has(_CPU_FLAGS) and has_openvino() else ()


def gaining(on_gpu: bool) -> tuple[ComputedIn, ...]:
    """What is faster here than float32, the fastest first; by what the machine is, not by time."""
    if on_gpu:
        return possible(on_gpu)
    return ("bfloat16",) if _has(_GAINING_FLAGS) and has_openvino() else ()


def what_it_takes(on_gpu: bool) -> str:
    """What is wanting here for 16 bits, behind "which"."""
    if on_gpu:
        return f"{devices.gpus()[0]} does not compute in"
    if not _has(_CPU_FLAGS):
        return "takes a GPU, or cores with AMX or AVX512-BF16, and these have neither"
    if not has_openvino():
        return "takes OpenVINO on these cores: pip install 'graftline[openvino]'"
    if not _has(_GAINING_FLAGS):
        return "is no faster on cores with AVX512-BF16 alone, without AMX"
    return "cores do not compute in"


def has_openvino() -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec("openvino") is not None


def _of_gpu(gpu: devices.Gpu) -> tuple[ComputedIn, ...]:
    if gpu.has_bfloat16:
        return "bfloat16", "tensorfloat32"
    return ("float16",) if gpu.capability is not None and gpu.capability >= _VOLTA else ()


def _has(flags: Sequence[str]) -> bool:
    return not devices.cpu_flags().isdisjoint(flags)


_TITLES = {"litert": "LiteRT", "keras": "Keras under tf.function", "openvino": "OpenVINO"}
