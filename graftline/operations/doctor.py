"""``graftline doctor``: whether all is there that a run here needs, and what to do if not."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from typing import Literal

import psutil
from packaging.requirements import InvalidRequirement, Requirement

from graftline import __version__
from graftline.compute.cores import available_cores
from graftline.core.code_lock import CODE_LOCK, changed_code
from graftline.core.code_state import PACKAGE, version_of
from graftline.core.counts import counted
from graftline.core.environment import prefect_address, tracking_address
from graftline.core.errors import GraftlineError
from graftline.core.locks import holder
from graftline.core.params import read_params
from graftline.core.records import Record
from graftline.core.redaction import without_secrets
from graftline.core.repository import check_repository
from graftline.core.silence import ended
from graftline.core.uncommitted import uncommitted_files
from graftline.core.workspace import Workspace
from graftline.data.source_path import located
from graftline.operations.dvc_commands import dvc_ended
from graftline.operations.dvc_exp_guard import refuse_after_interrupted
from graftline.operations.servers import address, mlflow_server, prefect_server

State = Literal["well", "note", "fault"]

_PYTHONS = ((3, 11), (3, 14))
_LEAST_FREE_BYTES = 2_000_000_000
_LEAST_MEMORY_BYTES = 4_000_000_000
_ANSWER_LIMIT_S = 5.0
_TENSORFLOW_GPUS = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"


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


def _devices(name: str, workspace: Workspace) -> Iterator[Finding]:
    memory = psutil.virtual_memory().total
    told = f"{counted(available_cores(), 'core')}, {memory / 1e9:.0f} GB of memory"
    if memory < _LEAST_MEMORY_BYTES:
        do = "take smaller batches and images (train.batch_size, preprocess.size_px)"
        yield Finding(name=name, state="fault", told=told, do=do)
        return
    gpus = _gpus()
    if not gpus:
        yield Finding(name=name, state="well", told=f"{told}; no GPU, so the cores train")
        return
    seen = _seen_by_tensorflow(workspace)
    told = f"{told}; {', '.join(gpus)}"
    if seen:
        yield Finding(name=name, state="well", told=f"{told}; TensorFlow uses {seen}")
    else:
        do = "pip install 'tensorflow[and-cuda]' of the version that is installed"
        yield Finding(name=name, state="fault", told=f"{told}; TensorFlow sees none", do=do)


def _gpus() -> list[str]:
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


def _seen_by_tensorflow(workspace: Workspace) -> int:
    done = ended([sys.executable, "-c", _TENSORFLOW_GPUS], cwd=workspace.root)
    last = done.stdout.split()[-1:]
    return int(last[0]) if last and last[0].isdigit() else 0


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


def _servers(name: str, workspace: Workspace) -> Iterator[Finding]:
    for title, given, own in (
        ("Prefect", prefect_address(os.environ, workspace.root), prefect_server),
        ("MLflow", tracking_address(os.environ), mlflow_server),
    ):
        if given is not None:
            shown = f"{title} at {without_secrets(given).removesuffix('/api')}"
            if _answers(f"{given.rstrip('/')}/health"):
                yield Finding(name=name, state="well", told=f"{shown} answers")
            else:
                do = "start it, or unset its address to have one started here"
                yield Finding(name=name, state="fault", told=f"{shown} does not answer", do=do)
        elif (running := address(own(workspace))) is not None:
            yield Finding(name=name, state="well", told=f"{title} runs at {running}")
        else:
            told = f"{title}: none runs; a flow starts what it needs, graftline up keeps one"
            yield Finding(name=name, state="note", told=told)
    if (process := holder(workspace)) is not None:
        yield Finding(name="pipeline", state="note", told=f"held by {process}")


def _answers(url: str) -> bool:
    import httpx

    try:
        httpx.get(url, timeout=_ANSWER_LIMIT_S)
    except httpx.TimeoutException:
        # A busy server is not away.
        return True
    except httpx.HTTPError:
        return False
    return True


_LOOKS: dict[str, Callable[[str, Workspace], Iterator[Finding]]] = {
    "versions": _versions,
    "devices": _devices,
    "disk": _disk,
    "git": _git,
    "dvc": _dvc,
    "code": _lock,
    "parameters": _parameters,
    "weights": _weights,
    "servers": _servers,
}
