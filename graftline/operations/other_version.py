"""An environment of its own with another version of Graftline, made once and kept in ``var/``.

``graftline reproduce`` runs a run of the past there whose code is another than the installed one.
The user's own environment is never touched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from graftline.core.code_lock import CODE_LOCK, locked_digests
from graftline.core.code_state import PACKAGE
from graftline.core.errors import ReproductionError
from graftline.core.files import sha256_record, write_text
from graftline.core.locks import installation_lock
from graftline.core.silence import ended
from graftline.core.workspace import Workspace

ENVIRONMENTS = "environments"
"""The folder in ``var/`` that keeps them."""
_LOCKED_VERSION = re.compile(r"^version: (\S+)$", re.MULTILINE)
_WHOLE = "installed"
"""Written last. A virtual environment cannot be moved, as its scripts name its place, so this file
tells one that is whole from one that was killed on the way."""
_LAST_LINES = 12
_LEADS_ELSEWHERE = (
    # Of Python, pip and uv: other modules, or another place than the one that is named here.
    *("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"),
    *("PIP_PREFIX", "PIP_PYTHON", "PIP_ROOT", "PIP_TARGET", "PIP_USER"),
    *("UV_BREAK_SYSTEM_PACKAGES", "UV_PREFIX", "UV_PROJECT_ENVIRONMENT", "UV_SYSTEM_PYTHON"),
    *("UV_PYTHON", "UV_TARGET"),
)
_PIPS_WORDS_FOR_UV = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_NO_INDEX": "UV_NO_INDEX",
}


@dataclass(frozen=True)
class OtherVersion:
    """A version of Graftline that can be run, beside the one that runs now."""

    version: str
    python: Path
    """The interpreter of its environment; the commands lie beside it."""

    def environment(self, inherited: Mapping[str, str], root: Path) -> dict[str, str]:
        """What a process finds that runs this version.

        Args:
            inherited: What it finds besides.
            root: Of the project, whose own modules it imports.
        """
        path = os.pathsep.join((str(self.python.parent), inherited.get("PATH", "")))
        return _without_leads(inherited) | {"PATH": path, "PYTHONPATH": str(root)}

    def version_of(self, package: str) -> str | None:
        """The version of a package in it; None if it is not installed there."""
        asked = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
        done = _answered([str(self.python), "-c", asked, package], self.python.parent)
        return done.stdout.strip() or None if done.returncode == 0 else None


def locked_version(root: Path) -> str | None:
    """The version that a project's ``graftline.lock`` was written by; None where it names none."""
    try:
        found = _LOCKED_VERSION.search((root / CODE_LOCK).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return found[1] if found and is_version(found[1]) else None


def is_version(text: str) -> bool:
    """Whether a text is a version, and neither an option nor an address for an installer."""
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def installed_version(
    workspace: Workspace,
    project: Path,
    version: str,
    pinned: Mapping[str, str],
    on_step: Callable[[str], None],
) -> OtherVersion:
    """A version of Graftline from the package index, which is asked once.

    Args:
        workspace: Whose ``var/environments`` keeps it.
        project: The project as it was, whose ``pyproject.toml`` may name more packages.
        version: Which one.
        pinned: By name, the versions of packages that decide what comes out.
        on_step: Told what is done next.

    Raises:
        ReproductionError: If it cannot be installed; with the answer of the installer.
        PipelineBusyError: If another process has been at the same one for an hour.
    """
    wanted = sorted(_wanted(project, version, pinned))
    key = sha256_record([wanted, sys.version_info[:2], sys.base_prefix])[:8]
    place = workspace.var / ENVIRONMENTS / f"{PACKAGE}-{version}-{key}"
    other = OtherVersion(version, place / "bin" / "python")
    with installation_lock(workspace, place, on_step):
        if not _answers(place, version):
            shown = place.relative_to(workspace.root)
            on_step(
                f"{PACKAGE} {version} is installed from the package index into {shown}, once; "
                "this may take minutes"
            )
            _install(workspace.root, place, wanted)
    return other


def refuse_other_code(other: OtherVersion, project: Path, environment: Mapping[str, str]) -> None:
    """Sees to it that a version from an index runs the code that ``graftline.lock`` says.

    Raises:
        ReproductionError: If it does not.
    """
    before = locked_digests(project)
    command = [str(other.python.with_name(PACKAGE)), "lock"]
    done = ended(command, cwd=project, environment=environment)
    now = locked_digests(project)
    changed = sorted(step for step in before if now.get(step) != before[step])
    if done.returncode or changed:
        why = _last(done) if done.returncode else f"of {', '.join(changed)} it has other code"
        raise ReproductionError(
            f"{PACKAGE} {other.version}, as the package index has it, is not the one that the "
            f"run was made with: {why}",
            where=str(other.python.parents[1]),
            allowed=f"the code of each step as {CODE_LOCK} of the run's commit has it",
            fix="install the Graftline that the run was made with into an environment, and run "
            "this command there",
        )


def _wanted(project: Path, version: str, pinned: Mapping[str, str]) -> Iterator[str]:
    """What is to be installed: this version, what decides, and what the project asks for."""
    extras: set[str] = set()
    for one in _asked_by(project):
        if canonicalize_name(one.name) == PACKAGE:
            extras |= one.extras
        else:
            yield str(one)
    named = f"[{','.join(sorted(extras))}]" if extras else ""
    yield f"{PACKAGE}{named}=={version}"
    for name, number in pinned.items():
        yield f"{name}=={number}"


def _asked_by(project: Path) -> Iterator[Requirement]:
    try:
        text = (project / "pyproject.toml").read_text(encoding="utf-8")
        named = tomllib.loads(text).get("project", {}).get("dependencies", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return
    for one in named:
        with suppress(InvalidRequirement):
            yield Requirement(one)


def _answers(place: Path, version: str) -> bool:
    """Whether an environment is there, whole, and works: its project may have been moved."""
    if not (place / _WHOLE).is_file():
        return False
    try:
        done = _answered([str(place / "bin" / PACKAGE), "--version"], place)
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.split() == [PACKAGE, version]


def _install(root: Path, place: Path, wanted: list[str]) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    python = str(place / "bin" / "python")
    # What carries a name of Graftline's is never built here from a source.
    asked = ["--only-binary", PACKAGE, *wanted]
    if uv := _uv():
        commands = [
            [uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(place)],
            [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *asked],
        ]
        environment = _for_uv(_without_leads(os.environ))
    else:
        commands = [
            [sys.executable, "-m", "venv", str(place)],
            [python, "-m", "pip", "install", "--quiet", *asked],
        ]
        environment = _without_leads(os.environ)
    try:
        for command in commands:
            done = ended(command, cwd=root, environment=environment)
            if done.returncode:
                raise ReproductionError(f"{'uv' if uv else 'pip'} answered:\n{_last(done)}")
        write_text(place / _WHOLE, "".join(f"{one}\n" for one in wanted))
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _uv() -> str | None:
    """Where uv is: beside the interpreter, or on the path."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("uv", path=os.pathsep.join((beside, os.environ.get("PATH", ""))))


def _for_uv(given: Mapping[str, str]) -> dict[str, str]:
    """An environment in which uv finds the index that was named for pip, if none is for uv."""
    if any(name in given for name in ("UV_INDEX_URL", *_PIPS_WORDS_FOR_UV.values())):
        return dict(given)
    # pip takes several with blanks between; of folders and pages uv does so with commas.
    told = {
        name: given[pips].replace(" ", ",") if name == "UV_FIND_LINKS" else given[pips]
        for pips, name in _PIPS_WORDS_FOR_UV.items()
        if given.get(pips)
    }
    return {**given, **told}


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LAST_LINES:])


def _without_leads(given: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in given.items() if name not in _LEADS_ELSEWHERE}


def _answered(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return ended(command, cwd=cwd, environment=_without_leads(os.environ))
