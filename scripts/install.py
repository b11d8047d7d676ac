"""Sets up ``.venv`` from ``requirements.lock``: ``python3 scripts/install.py``.

Needs nothing but Python's standard library. Safe to kill, to repeat and to start twice at once: one
process works at a time, and an environment counts as whole only when its stamp says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PYTHON_MIN = (3, 11)
PYTHON_END = (3, 14)

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"
VENV = ROOT / ".venv"
STAMP = VENV / ".graftline-installed"

# uv installs the rest. One package of the lock comes as source only, and setuptools builds it.
_FIRST = ("setuptools", "uv")


class InstallError(Exception):
    """Why the environment could not be set up, in words for its reader."""


def main(arguments: Sequence[str] = ()) -> int:
    """Sets the environment up unless it is whole already.

    Args:
        arguments: ``--runs`` if a run follows, which needs git and DVC's folder: without them
            nothing is installed.

    Returns:
        The exit code: 0, or after a message on standard error 2 for what is missing in the
        checkout and 1 for all else.
    """
    try:
        check_python(sys.version_info[:2])
        if (missing := _missing()) is not None:
            print(f"setup: {missing}", file=sys.stderr)
            if "--runs" in arguments:
                return 2
        with one_at_a_time(ROOT / "var" / "locks" / "setup.lock"):
            if not is_whole():
                started_s = time.monotonic()
                _install()
                _say(f"set up in {time.monotonic() - started_s:.0f} s")
    except InstallError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; run it again, it goes on from here", file=sys.stderr)
        return 130
    return 0


def check_python(version: tuple[int, ...]) -> None:
    """Refuses a Python for which the lock has no files.

    Raises:
        InstallError: If ``version`` is outside the supported range.
    """
    if not PYTHON_MIN <= version < PYTHON_END:
        raise InstallError(
            f"this is Python {'.'.join(map(str, version))}; 3.11, 3.12 or 3.13 is needed "
            "(name one with: make setup PYTHON=/path/to/python3)"
        )


@contextlib.contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Holds ``lock``; a second process waits. The system frees it when its holder dies."""
    # What is in var/ is nobody else's, and DVC would make it open to all.
    lock.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another set-up is running; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _missing() -> str | None:
    """What a run would miss in this checkout, with the command that helps."""
    # Not installed yet, but needs no other package.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from graftline.core.errors import RepositoryError
    from graftline.core.repository import check_repository

    try:
        check_repository(ROOT)
    except RepositoryError as error:
        return str(error)
    return None


def is_whole() -> bool:
    """Whether the environment holds what lock and project file ask for, in this very place."""
    return (
        _python().exists()
        and STAMP.exists()
        and STAMP.read_text(encoding="utf-8") == stamp(ROOT, LOCK, PROJECT)
    )


def stamp(root: Path, *files: Path) -> str:
    """What a whole environment's stamp holds: its place, and the digests of what went into it."""
    # A virtual environment cannot be moved, so one that came along with a copy does not count.
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return "\n".join([str(root), *digests]) + "\n"


def entries(lock_text: str, names: Sequence[str]) -> str:
    """The parts of a lock, hashes included, that pin the named packages.

    Raises:
        InstallError: If one of them is not in the lock.
    """
    found = []
    for name in names:
        match = re.search(rf"^{re.escape(name)}==.*(?:\n[ ]+--hash=.*)+", lock_text, re.MULTILINE)
        if match is None:
            raise InstallError(f"{LOCK.name} does not pin {name}")
        found.append(match.group())
    return "\n".join(found) + "\n"


def _install() -> None:
    unfinished = _python().exists() and not STAMP.exists()
    STAMP.unlink(missing_ok=True)
    _make_venv()
    _install_first()
    _say(f"installing the packages of {LOCK.name}, each checked by its hash")
    if _run([*_uv(), "--require-hashes", "-r", str(LOCK)]):
        _say("uv could not; trying pip, which may know another index")
        _install_with_pip()
    if _run([*_uv(), "--quiet", "--offline", "--editable", str(ROOT)]):
        raise InstallError("graftline itself could not be installed; the lines above say why")
    if unfinished:
        # uv compiles what it has just installed, so not what a killed set-up had installed before.
        _say("compiling what an interrupted set-up has left")
        _run([str(_python()), "-m", "compileall", "-qq", "-j", "0", str(VENV / "lib")])
    if _run([str(_python()), "-m", "graftline.core.database_templates"]):
        _say("Prefect's and MLflow's empty databases were not made; the first run makes its own")
    STAMP.write_text(stamp(ROOT, LOCK, PROJECT), encoding="utf-8")


def _make_venv() -> None:
    if _python().exists() and _belongs_here():
        return
    _say(f"making {VENV.name} with Python {sys.version.split()[0]}")
    shutil.rmtree(VENV, ignore_errors=True)
    if _run([sys.executable, "-m", "venv", str(VENV)]):
        shutil.rmtree(VENV, ignore_errors=True)
        raise InstallError(
            f"{sys.executable} could not make a virtual environment (on Debian and Ubuntu: "
            "apt install python3-venv)"
        )


def _belongs_here() -> bool:
    # A copied checkout brings an environment whose scripts name the old place: it is made anew,
    # like one that is half made or whose Python lies outside the range.
    pip = VENV / "bin" / "pip"
    if not pip.exists() or str(VENV) not in pip.read_text(encoding="utf-8", errors="replace"):
        return False
    version = f"{PYTHON_MIN} <= sys.version_info[:2] < {PYTHON_END}"
    return not _run([str(_python()), "-c", f"import sys; sys.exit(not {version})"])


def _install_first() -> None:
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first.txt"
        first.write_text(entries(LOCK.read_text(encoding="utf-8"), _FIRST), encoding="utf-8")
        options = ["--quiet", "--no-deps", "--require-hashes", "-r", str(first)]
        if _run([*_pip(), *options]):
            raise InstallError(
                "pip could not fetch the first packages of requirements.lock; is a package index "
                "within reach? (pip config list shows which one pip asks)"
            )


def _install_with_pip() -> None:
    # setuptools is there already, and builds what comes as source only.
    options = ["--no-deps", "--no-build-isolation", "--use-pep517", "--require-hashes"]
    # ai-edge-litert asks for backports.strenum, which says that it is for older Pythons only.
    options += ["--ignore-requires-python"]
    if _run([*_pip(), *options, "-r", str(LOCK)]):
        raise InstallError(
            f"the packages of {LOCK.name} could not be installed; the lines above say why. "
            "What is there is kept: run it again"
        )


def _uv() -> list[str]:
    # Without isolation: what builds is in the lock too, so nothing unchecked is fetched.
    options = ["--no-deps", "--no-build-isolation", "--compile-bytecode", *_without_cache()]
    return [str(VENV / "bin" / "uv"), "pip", "install", "--python", str(_python()), *options]


def _without_cache() -> list[str]:
    """What tells uv to go without its cache where it cannot write one, instead of ending.

    So it is with a home that is read-only, as many containers have it.
    """
    folder = os.environ.get("UV_CACHE_DIR")
    if folder is None:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        folder = os.path.join(home, "uv")
    place = Path(folder)
    while not place.exists() and place != place.parent:
        place = place.parent
    return [] if os.access(place, os.W_OK) else ["--no-cache"]


def _pip() -> list[str]:
    return [str(_python()), "-m", "pip", "install", "--disable-pip-version-check"]


def _python() -> Path:
    return VENV / "bin" / "python"


def _run(command: Sequence[str]) -> int:
    environment = dict(os.environ)
    # Modules without bytecode are compiled again at every start, which costs seconds.
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        environment.pop(name, None)
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _say(text: str) -> None:
    print(f"setup: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
