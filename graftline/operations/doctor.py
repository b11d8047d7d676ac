"""``graftline doctor``: whether all is there that a run here needs, and what to do if not."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, requires
from typing import Literal
from urllib.parse import urlsplit

import psutil
from packaging.requirements import InvalidRequirement, Requirement

from graftline import __version__
from graftline.compute.cores import VARIABLE as CORES_VARIABLE
from graftline.compute.cores import allowed_cores, available_cores
from graftline.compute.devices import cpu_flags, gpus, libraries_command, resolved_device
from graftline.core.code_lock import CODE_LOCK, changed_code
from graftline.core.code_state import PACKAGE, version_of
from graftline.core.counts import counted
from graftline.core.environment import prefect_address, prefect_login
from graftline.core.errors import GraftlineError, TrackingError
from graftline.core.installing import is_installed, require
from graftline.core.locks import holder
from graftline.core.params import read_params, read_record
from graftline.core.records import ComputedIn, Record
from graftline.core.redaction import without_secrets
from graftline.core.repository import check_repository
from graftline.core.stage_params import PUTS_IN, absent_keys
from graftline.core.uncommitted import uncommitted_files
from graftline.core.workspace import Workspace
from graftline.data.source_path import located
from graftline.formats.runners import onnx_providers
from graftline.network.runners.choosing import computing_of, gaining, possible, what_it_takes
from graftline.operations.dvc_commands import dvc_ended
from graftline.operations.dvc_exp_guard import refuse_after_interrupted
from graftline.operations.servers import address, mlflow_server, prefect_server

State = Literal["well", "note", "fault"]

_PYTHONS = ((3, 11), (3, 14))
_LEAST_FREE_BYTES = 2_000_000_000
_LEAST_MEMORY_BYTES = 4_000_000_000
_ANSWER_LIMIT_S = 5.0
_START = "start it, or unset its address to have one started here"
_INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
}
"""By Linux's name, what decides on how fast a network runs."""
_RUNNER_PACKAGES = {
    "LiteRT": "ai-edge-litert",
    "TensorFlow": "tensorflow",
    "OpenVINO": "openvino",
    "ONNX Runtime": "onnxruntime",
    "ONNX Runtime for GPUs": "onnxruntime-gpu",
}


class Finding(Record):
    """One thing that was looked at."""

    name: str
    state: State
    """``note``: nothing is wrong, and it is good to know."""
    told: str
    do: str | None = None
    """What helps, where something is wrong."""


class Doctor(Record):
    """Everything that ``graftline doctor`` tells."""

    findings: tuple[Finding, ...]

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return all(one.state != "fault" for one in self.findings)


def examine(workspace: Workspace) -> Doctor:
    """Looks at the machine, the installation and the project; changes nothing."""
    found: list[Finding] = []
    for name, look in _LOOKS.items():
        try:
            found += look(name, workspace)
        except GraftlineError as error:
            place = f" ({error.where})" if error.where else ""
            told = f"{error.what}{place}"
            found.append(Finding(name=name, state="fault", told=told, do=error.fix))
    return Doctor(findings=tuple(found))


def _versions(name: str, _: Workspace) -> Iterator[Finding]:
    least, below = _PYTHONS
    python = f"Python {platform.python_version()}"
    if not least <= sys.version_info[:2] < below:
        do = "use Python 3.11, 3.12 or 3.13"
        yield Finding(name=name, state="fault", told=f"{python} ({sys.executable})", do=do)
    wrong = sorted(_unmet())
    shown = [f"{one} {version_of(one) or 'absent'}" for one in ("prefect", "dvc", "mlflow")]
    told = f"graftline {__version__}, {python}, {', '.join(shown)}"
    if wrong:
        do = "in a checkout of Graftline make setup, elsewhere pip install graftline once more"
        yield Finding(name=name, state="fault", told=f"{told}; {'; '.join(wrong)}", do=do)
    else:
        yield Finding(name=name, state="well", told=told)


def _unmet() -> Iterator[str]:
    """The packages that the distribution asks for, and that are not there as it asks."""
    try:
        asked = requires(PACKAGE) or ()
    except PackageNotFoundError:
        return
    for text in asked:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        present = version_of(requirement.name)
        if present is None:
            yield f"{requirement.name} is not installed"
        elif not requirement.specifier.contains(present, prereleases=True):
            yield f"{requirement.name} {present} is none of {requirement.specifier}"


def _devices(name: str, _: Workspace) -> Iterator[Finding]:
    memory = psutil.virtual_memory().total
    shown = {_INSTRUCTIONS[flag] for flag in _INSTRUCTIONS if flag in cpu_flags()}
    told = f"{_cores()}, {memory / 1e9:.0f} GB of memory"
    if shown:
        told += f"; {', '.join(sorted(shown))}"
    if memory < _LEAST_MEMORY_BYTES:
        do = "take smaller batches and images (train.batch_size, preprocess.size_px)"
        yield Finding(name=name, state="fault", told=told, do=do)
        return
    listed, used = _listed_gpus(), gpus()
    if used:
        told += f"; TensorFlow uses {', '.join(map(str, used))}"
        yield Finding(name=name, state="well", told=told)
    elif listed:
        do = f"install its libraries: {libraries_command()}"
        told += f"; {', '.join(listed)}, of which TensorFlow sees none"
        yield Finding(name=name, state="fault", told=told, do=do)
    else:
        yield Finding(name=name, state="well", told=f"{told}; no GPU, so the cores train")


def _cores() -> str:
    present = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    allowed, used = allowed_cores(), available_cores()
    told = counted(allowed, "core")
    if present and allowed < present:
        told += f" by the container's quota, of {present}"
    return told if used == allowed else f"{told}, of which {CORES_VARIABLE} takes {used}"


def _runners(name: str, workspace: Workspace) -> Iterator[Finding]:
    """What runs the frozen part: what there is, what is chosen, and why."""
    present = [
        f"{title} {version}"
        for title, package in _RUNNER_PACKAGES.items()
        if (version := version_of(package))
    ]
    compute = read_params(workspace.params_file).compute
    told = ", ".join(present)
    if is_installed("onnxruntime"):
        told += f" ({', '.join(onnx_providers(compute.device))})"
    on_gpu = resolved_device(compute.device) == "gpu"
    told += f"; compute.device {compute.device}: {'the GPU' if on_gpu else 'the cores'}"
    faster = gaining(on_gpu)
    wanted: ComputedIn = "float32"
    if compute.precision == "bfloat16":
        wanted = "bfloat16"
    told += f"; compute.precision {compute.precision}: "
    if compute.precision == "auto" and faster:
        told += f"{' or '.join(faster)}, if the probe in the step freeze loses nothing by it"
    elif compute.precision == "auto":
        told += f"{computing_of(compute.device, 'float32')}, since bfloat16 {what_it_takes(on_gpu)}"
    elif wanted != "float32" and wanted not in possible(on_gpu):
        told += f"impossible here, since it {what_it_takes(on_gpu)}"
        do = "set compute.precision to auto"
        yield Finding(name=name, state="fault", told=told, do=do)
        return
    else:
        told += str(computing_of(compute.device, wanted))
        if compute.precision == "float32" and faster:
            told += f"; auto would try {' and '.join(faster)}"
    yield Finding(name=name, state="well", told=told)


def _engine(name: str, workspace: Workspace) -> Iterator[Finding]:
    """Where the work goes that is done chunk by chunk."""
    compute = read_params(workspace.params_file).compute
    side_by_side = compute.workers or available_cores()
    if compute.engine == "local":
        told = f"compute.engine local: {counted(side_by_side, 'thread')} of the step's own process"
        yield Finding(name=name, state="well", told=told)
        return
    require("cluster", "the engine dask", "compute.engine: dask")
    if compute.address is None:
        told = f"compute.engine dask: each step starts {counted(side_by_side, 'worker')} here"
        yield Finding(name=name, state="well", told=told)
        return
    told = f"compute.engine dask: the scheduler at {compute.address}"
    place = urlsplit(compute.address)
    try:
        socket.create_connection((place.hostname, place.port), _ANSWER_LIMIT_S).close()
    except OSError as error:
        told += f" cannot be reached: {error.strerror or error}"
        do = "start it (docs/cluster.md), or set compute.address to null"
        yield Finding(name=name, state="fault", told=told, do=do)
        return
    yield Finding(name=name, state="well", told=f"{told} can be reached")


def _listed_gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _disk(name: str, workspace: Workspace) -> Iterator[Finding]:
    usage = shutil.disk_usage(workspace.root)
    told = f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.0f} GB at {workspace.root}"
    if usage.free >= _LEAST_FREE_BYTES:
        yield Finding(name=name, state="well", told=told)
        return
    do = "make room; dvc gc --workspace removes what no present output needs from DVC's cache"
    yield Finding(name=name, state="fault", told=told, do=do)


def _git(name: str, workspace: Workspace) -> Iterator[Finding]:
    check_repository(workspace.root)
    refuse_after_interrupted(workspace)
    names = uncommitted_files(workspace.root)
    if not names:
        told = "what a run is made from is committed" if names == [] else "git tells nothing"
        yield Finding(name=name, state="well" if names == [] else "note", told=told)
        return
    told = f"not committed: {', '.join(names)}; a run of now could not be reproduced"
    if names == ["params.yaml"]:
        told = "params.yaml is not committed; each run keeps its own, so it can be reproduced"
    yield Finding(name=name, state="note", told=told, do="git commit")


def _dvc(name: str, workspace: Workspace) -> Iterator[Finding]:
    if not (workspace.root / ".dvc").is_dir():
        # What git's part has told.
        return
    done = dvc_ended(workspace.root, "stage", "list", "--name-only")
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it does not say why"])[-1]
        do = "mend dvc.yaml, or: git checkout dvc.yaml"
        yield Finding(name=name, state="fault", told=without_secrets(said), do=do)
        return
    stages = len(done.stdout.split())
    remotes = dvc_ended(workspace.root, "remote", "list").stdout.split()
    told = counted(stages, "stage")
    if not remotes:
        told += "; no remote, so the data and models lie on this disk alone"
        do = "dvc remote add --default NAME ADDRESS"
        yield Finding(name=name, state="note", told=told, do=do)
        return
    yield Finding(name=name, state="well", told=f"{told}; remote {remotes[0]}")


def _lock(name: str, workspace: Workspace) -> Iterator[Finding]:
    changed = changed_code(workspace)
    if not changed:
        yield Finding(name=name, state="well", told=f"{CODE_LOCK} is current")
        return
    told = f"{CODE_LOCK} tells other code of {', '.join(changed)} than is installed"
    yield Finding(name=name, state="fault", told=told, do="graftline lock, and commit it")


def _parameters(name: str, workspace: Workspace) -> Iterator[Finding]:
    params = read_params(workspace.params_file)
    source: str = params.data.source
    if params.data.path is not None:
        source = f"{source} {located(params.data, workspace.root)}"
    if absent := absent_keys(workspace.root, read_record(workspace.params_file), params):
        told = f"params.yaml lacks {', '.join(absent)}, without which DVC runs no stage"
        yield Finding(name=name, state="fault", told=told, do=PUTS_IN)
        return
    yield Finding(name=name, state="well", told=f"params.yaml is valid; images: {source}")


def _weights(name: str, workspace: Workspace) -> Iterator[Finding]:
    from graftline.network.pretrained import present_weights

    params = read_params(workspace.params_file)
    found = present_weights(workspace, params.backbone, params.preprocess.size_px)
    if found is None:
        told = f"{params.backbone.weights}: not here yet; assemble downloads them"
        yield Finding(name=name, state="note", told=told)
        return
    told = found.name if found.path is None else f"{found.name}: {found.path}"
    yield Finding(name=name, state="well", told=told)


@dataclass(frozen=True)
class _Wrong:
    """What is wrong with a server, in words that follow its name, and what to do."""

    told: str
    do: str = _START


def _servers(name: str, workspace: Workspace) -> Iterator[Finding]:
    for title, given, own, problem in (
        ("Prefect", prefect_address(os.environ, workspace.root), prefect_server, _prefect_problem),
        ("MLflow", os.environ.get("MLFLOW_TRACKING_URI"), mlflow_server, _mlflow_problem),
    ):
        if given:
            shown = f"{title} at {without_secrets(given).removesuffix('/api')}"
            wrong = problem(workspace, given)
            yield Finding(
                name=name,
                state="fault" if wrong else "well",
                told=f"{shown} {wrong.told if wrong else 'answers'}",
                do=wrong.do if wrong else None,
            )
        elif (running := address(own(workspace))) is not None:
            yield Finding(name=name, state="well", told=f"{title} runs at {running}")
        else:
            told = f"{title}: none runs; a flow starts what it needs, graftline up keeps one"
            yield Finding(name=name, state="note", told=told)
    if (process := holder(workspace)) is not None:
        yield Finding(name="pipeline", state="note", told=f"held by {process}")


def _prefect_problem(workspace: Workspace, url: str) -> _Wrong | None:
    import httpx

    login = prefect_login(os.environ, workspace.root)
    headers = {"Authorization": login} if login else {}

    def status(path: str) -> int:
        answer = httpx.get(f"{url.rstrip('/')}{path}", headers=headers, timeout=_ANSWER_LIMIT_S)
        is_page = answer.is_success and "json" not in answer.headers.get("content-type", "")
        return HTTPStatus.NOT_FOUND if is_page else answer.status_code

    try:
        health, ready, version = map(status, ("/health", "/ready", "/admin/version"))
    except httpx.TimeoutException:
        # A busy server is not away.
        return None
    except httpx.HTTPError:
        return _Wrong("does not answer")
    if health == HTTPStatus.NOT_FOUND:
        return _Wrong(
            "is no Prefect API", "name the API's address, which ends with /api: PREFECT_API_URL"
        )
    if {health, version} & {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return _Wrong(
            "does not let this client in",
            "set the login that it asks for: PREFECT_API_AUTH_STRING, or PREFECT_API_KEY",
        )
    if ready == HTTPStatus.SERVICE_UNAVAILABLE:
        return _Wrong("is there, and its database does not answer")
    return None


def _mlflow_problem(workspace: Workspace, _: str) -> _Wrong | None:
    from graftline.registry.tracking.store import configure, probe

    try:
        probe(configure(workspace))
    except TrackingError as error:
        return _Wrong(error.what.removeprefix("the tracking store "), error.fix or _START)
    return None


_LOOKS: dict[str, Callable[[str, Workspace], Iterator[Finding]]] = {
    "versions": _versions,
    "devices": _devices,
    "runners": _runners,
    "engine": _engine,
    "disk": _disk,
    "git": _git,
    "dvc": _dvc,
    "code": _lock,
    "parameters": _parameters,
    "weights": _weights,
    "servers": _servers,
}
