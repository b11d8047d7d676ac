"""What runs in a cluster's workers: the proof that they are fit for a step, and its chunks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graftline.compute.cores import using_workers
from graftline.compute.devices import cpu_flags, settled_device
from graftline.compute.parts import part_file, write_part
from graftline.compute.work import Arrays, Work
from graftline.core.code_state import PACKAGE, code_state
from graftline.core.environment import settle
from graftline.core.errors import ClusterError
from graftline.core.process_identity import name_tag
from graftline.core.workspace import Workspace

_VECTORS = {
    "avx",
    "fma",
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "asimd",
    "sve",
}


def code_of(step: str) -> dict[str, Any]:
    """The code of a step and the packages that it computes with, as they are installed here."""
    module = "inference/batch/writer" if step == "predict" else f"steps/{step}"
    state = code_state(f"{PACKAGE}/{module}.py", trains=False)
    # Libraries choose their sums by these, and so the last digits.
    return {**state, "vectors": sorted(_VECTORS & cpu_flags())}


@dataclass(frozen=True)
class Proof:
    """What a worker has to see and to run before it may work for a step.

    Args:
        root: The project's folder.
        file: In it, made for this start of the step.
        nonce: What the file holds.
        step: The step's name.
        code: :func:`code_of` the step, on the step's own machine.
        own: Whether the step has started the worker itself.
    """

    root: Path
    file: str
    nonce: str
    step: str
    code: dict[str, Any]
    own: bool


_proved: dict[str, str | None] = {}
_first_code: dict[str, str] = {}
"""The digests of modules when this process first looked at them, before it ran them."""


def problem(proof: Proof) -> str | None:
    """What is wrong with this worker, in words that follow its name; None if nothing is."""
    if proof.own and threading.current_thread() is threading.main_thread():
        # Ctrl-C goes to all processes of a terminal; the step ends its workers itself.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if proof.nonce not in _proved:
        _proved[proof.nonce] = _problem(proof)
    return _proved[proof.nonce]


def _problem(proof: Proof) -> str | None:
    file = proof.root / proof.file
    try:
        seen = file.read_text(encoding="utf-8")
    except OSError as error:
        return f"does not see the project folder: {file}: {error.strerror or error}"
    if seen != proof.nonce:
        return f"sees another folder than the step's under the name {proof.root}"
    settle(Workspace(proof.root))
    # What it writes half is not to be cleared away from another machine.
    name_tag()
    here = code_of(proof.step)
    for name, digest in here["code"].items():
        if _first_code.setdefault(name, digest) != digest:
            return f"was started before {name} was changed; start it again"
    for what, wanted in _flat(proof.code).items():
        if (found := _flat(here).get(what)) != wanted:
            return f"has another {what}: {_shown(found)}, and the step has {_shown(wanted)}"
    return None


def _flat(code: dict[str, Any]) -> dict[str, Any]:
    return {
        **{f"code in {name}": digest for name, digest in code["code"].items()},
        **{f"version of {name}": version for name, version in code["packages"].items()},
        "Python": code["python"],
        "kind of machine": " ".join(code["machine"]),
        "set of vector instructions": " ".join(code["vectors"]),
    }


def _shown(value: str | None) -> str:
    return "none" if not value else value if " " in value else value[:12]


@dataclass
class _Opened:
    function: Callable[[Any], Arrays]
    stack: ExitStack
    users: int = 0


@dataclass(frozen=True)
class Task:
    """What the chunks of one map have in common; it is small.

    Args:
        token: Of this map and no other.
        proof: What the worker has to show first: one that comes late too.
        work: The step's.
        folder: Where the parts go; None returns the arrays.
    """

    token: str
    proof: Proof
    work: Work[Any] = field(repr=False)
    folder: Path | None


_opened: dict[str, _Opened] = {}
_lock = threading.Lock()


def run_chunk(task: Task, number: int, chunk: Any, threads: int | None = None) -> Arrays | None:
    """Works on one chunk, in a worker.

    Returns:
        The arrays, or None where they are written to a file.

    Raises:
        ClusterError: If this worker is not fit for it.
    """
    from distributed import get_worker

    worker = get_worker()
    if (wrong := problem(task.proof)) is not None:
        raise ClusterError(f"the worker {worker.address} {wrong}", where=str(task.proof.root))
    # Of a machine's GPU a worker uses what it offers.
    settled_device("auto" if worker.state.total_resources.get("GPU") else "cpu")
    opened = _taken(task, threads or worker.state.nthreads)
    try:
        arrays = opened.function(chunk)
        if task.folder is None:
            return arrays
        write_part(part_file(task.folder, number), arrays)
        return None
    finally:
        with _lock:
            opened.users -= 1


def _taken(task: Task, threads: int) -> _Opened:
    """The work of a map, opened once by this process; earlier maps' are closed."""
    with _lock:
        if task.token not in _opened:
            for token in [token for token, one in _opened.items() if not one.users]:
                _opened.pop(token).stack.close()
            stack = ExitStack()
            stack.enter_context(using_workers(threads))
            _opened[task.token] = _Opened(stack.enter_context(task.work.opened()), stack)
        opened = _opened[task.token]
        opened.users += 1
        return opened


def forget(nonce: str) -> None:
    """Closes what was opened for a step that has ended."""
    with _lock:
        _proved.pop(nonce, None)
        for token in [one for one in _opened if one.startswith(nonce) and not _opened[one].users]:
            _opened.pop(token).stack.close()
