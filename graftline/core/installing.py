"""What is not installed here: the command that installs it, and the extras that it is part of."""

from __future__ import annotations

import importlib.util
import shlex
import sys

from graftline.core.errors import MissingPackageError

EXTRAS = {
    "cluster": ("dask", "distributed"),
    "heif": ("pillow_heif",),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
    "openvino": ("openvino",),
    "postgres": ("psycopg",),
    "s3": ("boto3", "dvc_s3"),
}
"""By extra, the modules that its packages bring."""


def require(extra: str, what: str, where: str) -> None:
    """Sees to it that an extra is installed, before anything is done that needs it at its end.

    Args:
        extra: Of :data:`EXTRAS`.
        what: What needs it.
        where: The parameter or file that asks for that.

    Raises:
        MissingPackageError: If one of its modules is not there.
    """
    missing = [name for name in EXTRAS[extra] if not is_installed(name)]
    if missing:
        raise MissingPackageError(
            f"{what} needs the extra {extra} of Graftline, and of that {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed",
            where=where,
            fix=extra_command(extra),
        )


def extra_command(extra: str) -> str:
    """The command that installs an extra here."""
    return install_command(f"graftline[{extra}]")


def install_command(*words: str) -> str:
    """The command that installs a package into this environment.

    Args:
        words: The package, and options before it.
    """
    # An environment that uv has made has no pip.
    pip = (
        [sys.executable, "-m", "pip", "install"]
        if is_installed("pip")
        else ["uv", "pip", "install", "--python", sys.executable]
    )
    return shlex.join([*pip, *words])


def is_installed(module: str) -> bool:
    """Whether a module of the first level could be imported; it is not."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:
        # Something else has put a stand-in without a name into sys.modules.
        return False
