"""The section ``compute``: on what the work runs."""

from __future__ import annotations

import ipaddress
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from graftline.core.params.fields import Section

WHERE_ALONE = ("engine", "address", "workers")
"""The keys that decide nothing of what comes out: no stage has them among its parameters."""


class ComputeParams(Section):
    """On what the work runs. Engine, address and workers decide nothing of what comes out."""

    device: Literal["auto", "cpu", "gpu"] = Field(
        default="auto",
        description="What the backbone runs on. auto: a GPU that TensorFlow can use, where there "
        "is one, else the cores. The last digits depend on it.",
    )
    precision: Literal["float32", "auto", "bfloat16"] = Field(
        default="float32",
        description="What the frozen part computes in, from extract to the finished model. auto: "
        "in 16 bits where this machine gains by it and a probe on training images loses nothing; "
        "see docs/devices.md.",
    )

    engine: Literal["local", "dask"] = Field(
        default="local",
        description="local: threads of the step's own process. dask: processes that a Dask "
        "scheduler hands the work to, on this machine or on several; see docs/cluster.md.",
    )
    address: str | None = Field(
        default=None,
        description="Of a Dask scheduler, such as tls://10.0.0.5:8786; beyond this machine it has "
        "to be tls://. Null: each step starts workers of its own on this machine.",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="How many work side by side on one machine. Null: as many as the cores that "
        "this process may use, by its affinity mask and the CPU quota of its container. Of a "
        "training with the workers of a Dask scheduler: how many of them join; null: all.",
    )
    strategy: Literal["auto", "none", "mirrored", "multi_worker"] = Field(
        default="auto",
        description="On what train computes each step. none: one device. mirrored: all GPUs of "
        "this machine. multi_worker: the processes that TF_CONFIG names, on several machines; "
        "without it, this one and the workers of the Dask scheduler at address. "
        "auto: multi_worker where TF_CONFIG is set, mirrored where there are several GPUs, else "
        "none; see docs/several-machines.md.",
    )
    deterministic: bool = Field(
        default=True,
        description="Whether a GPU that trains is held to operations that give the same bytes for "
        "the same seed, which can be slower ones. On a CPU they do anyway; see "
        "docs/several-machines.md.",
    )

    @field_validator("address")
    @classmethod
    def _reachable_safely(cls, address: str | None) -> str | None:
        if address is None:
            return None
        parts = urlsplit(address)
        try:
            whole = parts.hostname is not None and parts.port is not None
        except ValueError:
            whole = False
        if parts.scheme not in ("tcp", "tls") or not whole:
            raise ValueError(
                f"{address!r} is no scheduler's address; allowed: tls://HOST:PORT, and "
                "tcp://127.0.0.1:PORT on this machine"
            )
        if parts.scheme == "tcp" and not is_loopback(parts.hostname or ""):
            raise ValueError(
                f"{address!r} lies beyond this machine, and what is sent there could be read and "
                "changed on the way; use tls:// (docs/cluster.md tells how)"
            )
        return address

    @model_validator(mode="after")
    def _address_is_used(self) -> ComputeParams:
        if self.address is not None and self.engine != "dask":
            raise ValueError(
                f"compute.address is {self.address!r}, but compute.engine is {self.engine}, which "
                "asks no scheduler; set compute.engine to dask, or compute.address to null"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether a host's name or number is this machine's own, told without asking a name server."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
