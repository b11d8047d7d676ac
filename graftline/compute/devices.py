"""What this machine computes on: GPUs that TensorFlow can use, and instructions of its cores.

Looking costs nothing where there is no GPU: TensorFlow, which takes seconds to import, is asked
only where the system has a driver for one.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from graftline.core.code_state import version_of
from graftline.core.errors import ParamsError
from graftline.core.installing import install_command

Device = Literal["cpu", "gpu"]

_DRIVERS = ("nvidiactl", "nvidia0", "dxg", "kfd")
"""In ``/dev``: NVIDIA's, that of Windows's subsystem for Linux, AMD's."""
_CPUINFO = Path("/proc/cpuinfo")
_AMPERE = (8, 0)
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""By which a process is told what GPUs there are for it; -1: none."""


@dataclass(frozen=True)
class Gpu:
    """A GPU that TensorFlow can use.

    Args:
        name: As its maker calls it.
        capability: NVIDIA's compute capability, as in (8, 0); None where it is not told.
    """

    name: str
    capability: tuple[int, int] | None

    @property
    def has_bfloat16(self) -> bool:
        """Whether it computes in bfloat16, and in TF32: from Ampere on."""
        return self.capability is not None and self.capability >= _AMPERE

    def __str__(self) -> str:
        if self.capability is None:
            return self.name
        return f"{self.name} (compute capability {self.capability[0]}.{self.capability[1]})"


def resolved_device(wanted: str) -> Device:
    """On what the frozen part runs here.

    Args:
        wanted: ``compute.device``: auto, cpu or gpu.

    Raises:
        ParamsError: If a GPU is asked for, and there is none that TensorFlow can use.
    """
    if wanted == "cpu":
        return "cpu"
    if gpus():
        return "gpu"
    if wanted == "gpu":
        raise ParamsError(
            f"compute.device: gpu, but {_found_instead()}",
            where="compute.device",
            allowed="auto, which takes a GPU where there is one, and cpu",
            fix="set compute.device to auto, or mend the installation: nvidia-smi has to list the "
            f"GPU, and TensorFlow needs its libraries: {libraries_command()}",
        )
    return "cpu"


def settled_device(wanted: str, *, deterministic: bool = True) -> Device:
    """The same, and has all that this process does with TensorFlow keep to it.

    To be called before TensorFlow does anything. Where the cores compute, no GPU is seen: else what
    Keras does beside the runners would go there. A GPU is held to operations that give the same
    bytes each time: else each convolution takes the algorithm that was the fastest when it was
    first called. And float32 is float32 there: TensorFlow by itself would round it to TF32.

    Args:
        wanted: ``compute.device``: auto, cpu or gpu.
        deterministic: Whether a GPU is held to that.

    Raises:
        ParamsError: If a GPU is asked for, and there is none that TensorFlow can use.
    """
    device = resolved_device(wanted)
    if device == "gpu":
        import tensorflow as tf

        if deterministic:
            tf.config.experimental.enable_op_determinism()
        tf.config.experimental.enable_tensor_float_32_execution(False)
    elif drivers():
        # By the environment, so that nothing has to be imported, and that children keep to it.
        os.environ[VISIBLE] = "-1"
    return device


@functools.cache
def gpus() -> tuple[Gpu, ...]:
    """The GPUs that TensorFlow can use."""
    if not drivers():
        return ()
    import tensorflow as tf

    return tuple(
        _described(tf.config.experimental.get_device_details(one))
        for one in tf.config.list_physical_devices("GPU")
    )


def libraries_command() -> str:
    """The command that installs what TensorFlow needs for a GPU beside its driver."""
    return install_command(f"tensorflow[and-cuda]=={version_of('tensorflow')}")


def drivers(folder: Path = Path("/dev")) -> tuple[str, ...]:
    """The drivers of GPUs that the system has, by the names of their files."""
    return tuple(name for name in _DRIVERS if (folder / name).exists())


def cpu_flags(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """The instruction sets of this machine's cores, as Linux names them; elsewhere none."""
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    return frozenset(
        flag
        for line in text.splitlines()
        if line.startswith(("flags", "Features"))
        for flag in line.partition(":")[2].split()
    )


def cards() -> tuple[str, str | None]:
    """This machine, and the GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    return socket.gethostname(), os.environ.get(VISIBLE)


def sharing_cards(places: Sequence[tuple[str, str | None]]) -> str | None:
    """The first machine on which two of some processes see the same GPU; None if there is none.

    Args:
        places: Of each process, its :func:`cards`; without a variable it sees all.
    """
    taken: dict[str, list[set[str] | None]] = {}
    for host, named in places:
        mine = None if named is None else {one.strip() for one in named.split(",")}
        others = taken.setdefault(host, [])
        if any(mine is None or one is None or mine & one for one in others):
            return host
        others.append(mine)
    return None


def _described(details: dict[str, object]) -> Gpu:
    capability = details.get("compute_capability")
    known = isinstance(capability, Sequence) and len(capability) == 2
    return Gpu(
        name=str(details.get("device_name", "GPU")),
        capability=(int(capability[0]), int(capability[1])) if known else None,  # type: ignore[index]
    )


def _found_instead() -> str:
    if found := drivers():
        return f"TensorFlow can use none (the system has a driver: /dev/{found[0]})"
    return "this machine has none (no driver of one was found in /dev)"
