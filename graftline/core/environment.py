"""The environment of Graftline's own processes, whichever door they were started by.

Four kinds of variables, each named once, here:

- What would decide results is set (:data:`DECIDING`) or left out (:data:`LEFT_OUT`), whatever the
  user's environment says, and a line says so. Only parameters decide.
- What leads a library astray (:data:`ASTRAY`, :data:`PYTHON`,
  :data:`graftline.core.repository.PLACES`) is left out without a word.
- What keeps Prefect, MLflow and DVC quiet, and at home in ``var/``, is a default.
- All else stays: addresses of servers, folders, proxies, certificates, and how much of the machine
  may be used (CUDA_VISIBLE_DEVICES, OMP_NUM_THREADS, TF_NUM_INTRAOP_THREADS).
"""

from __future__ import annotations

import base64
import importlib.util
import locale
import math
import os
import pwd
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from graftline.core.errors import ParamsError
from graftline.core.keras_home import SETTINGS, VARIABLE, foreign_settings, keras_home
from graftline.core.private import keep_state_private
from graftline.core.process_identity import renew_in
from graftline.core.repository import PLACES
from graftline.core.workspace import Workspace

LOGIN_VARIABLE = "GRAFTLINE_LOGIN"
"""In which MLflow's pages find the login that they ask for."""

CALLED_FROM_VARIABLE = "GRAFTLINE_CALLED_FROM"
"""Where the user stands who runs a project elsewhere: ``graftline run -C DIR``."""
RUN_ID_VARIABLE = "GRAFTLINE_RUN_ID"
"""The tracked run that a stage's figures go to."""
ERROR_FILE_VARIABLE = "GRAFTLINE_ERROR_FILE"
"""Where a process leaves its error as JSON for the one that started it: a stage, a flow."""
HELD_BY_VARIABLE = "GRAFTLINE_PIPELINE_HELD_BY"
"""The process number of the flow that holds the pipeline for the stage."""
PATIENCE_VARIABLE = "GRAFTLINE_PATIENCE_S"
"""How long the middle of a run waits for a server that is away, in seconds."""
_PATIENCE_S = 180.0
_MLFLOW_TRIES = 10
"""MLflow refuses more of them."""
WEBHOOK_VARIABLE = "GRAFTLINE_WEBHOOK"
"""The web address that is told of verdicts, where it is a secret."""

ALIVE = "alive"
"""In ``var/``: a file for each process that other machines have to know of."""

MLFLOW_SWITCHES = {
    # The word: MLflow takes no other spelling, and "1" would leave the telemetry on.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # What is logged is there when the call returns, and not lost with the process.
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
}
"""What every process that uses MLflow finds, whatever the user has set; a default for others."""

_QUIET = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "true",
    **MLFLOW_SWITCHES,
    # So Prefect's server answers while its database is away.
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500,504",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    # Else the first process on a GPU takes all of its memory.
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}

DECIDING = {
    "KERAS_BACKEND": "tensorflow",
    # Number format, epsilon and order of the axes come from the keras.json there.
    "KERAS_HOME": str(SETTINGS),
    # Figures are the same everywhere; Matplotlib does not even import with a notebook's backend.
    "MATPLOTLIBRC": os.devnull,
    "MPLBACKEND": "Agg",
    # The same seed gives other weights without it.
    "TF_ENABLE_ONEDNN_OPTS": "1",
}
"""What every process of Graftline's finds, whatever the user has set."""

LEFT_OUT = (
    # Keras: limits of epochs and steps, other layers. TensorFlow: XLA, mixed precision, legacy
    # Keras. Any variable of theirs may decide, so only those of _KEPT are kept.
    *("KERAS_", "TF_", "XLA_"),
    # oneDNN and CUDA: bfloat16 or TF32 in place of float32, other instructions.
    *("ONEDNN_", "DNNL_", "NVIDIA_TF32_OVERRIDE"),
    # NumPy, SciPy, their BLAS, libjpeg: other instructions, other rules of promotion. But not
    # OPENBLAS_CORETYPE, which works around processors on which OpenBLAS computes wrong or crashes.
    *("NPY_", "SCIPY_ARRAY_API", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"),
    "JSIMD_",
)
"""The beginnings of names that would decide results, and are left out."""

_KEPT = (
    # Which processes train together: compute.strategy says whether they do.
    "TF_CONFIG",
    # How much is said, and how much of the machine is used.
    *("TF_CPP_", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
    *("TF_FORCE_GPU_ALLOW_GROWTH", "TF_GPU_ALLOCATOR", "TF_GPU_THREAD_"),
    # Terraform's names begin as TensorFlow's do; a command under notify may want them.
    *("TF_ACC", "TF_APPEND_", "TF_CLI_", "TF_CLOUD_", "TF_DATA_DIR", "TF_ENCRYPTION", "TF_IGNORE"),
    *("TF_IN_AUTOMATION", "TF_INPUT", "TF_LOG", "TF_PLUGIN_", "TF_REATTACH_", "TF_REGISTRY_"),
    *("TF_STATE_", "TF_SKIP_", "TF_TOKEN_", "TF_VAR_", "TF_WORKSPACE"),
)

ASTRAY = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID")
"""What a run around Graftline's leaves; Graftline's own runs go elsewhere."""

PYTHON = ("PYTHONINSPECT", "PYTHONIOENCODING", "PYTHONOPTIMIZE", "PYTHONSAFEPATH", "PYTHONWARNINGS")
"""What the interpreter itself reads: a stage would wait for input, fail at a warning of a library,
lose its checks, or not find the checkout's own modules."""

_DVC = ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_SOCKS = {"socks5": "socksio", "socks5h": "socksio"}
_SILENT = ("KERAS_HOME", "MATPLOTLIBRC", "MPLBACKEND")
"""Set to something else on most machines, and of no use to Graftline: nothing to tell of."""


def settle(workspace: Workspace) -> None:
    """Puts this process's environment in order, says what is not used, and keeps state private.

    Call it before NumPy, Matplotlib, TensorFlow, Keras, MLflow or Prefect is imported: they read
    the environment then. What this process starts inherits it.
    """
    environment = settled(workspace, os.environ)
    for line in _told(os.environ, environment):
        sys.stderr.write(f"{line}\n")
    for name in [name for name in os.environ if name not in environment]:
        del os.environ[name]
    os.environ.update(environment)
    keep_state_private(workspace)
    if workspace.var.is_dir():
        renew_in(workspace.var / ALIVE)


def settled(workspace: Workspace, given: Mapping[str, str]) -> dict[str, str]:
    """An environment in order; settling it again changes nothing.

    Args:
        workspace: Whose ``var/`` holds Prefect's database.
        given: As the user has set it.
    """
    environment = {name: text for name, text in given.items() if not _is_left_out(name)}
    if _of_another_stage(environment.get("DVC_ROOT"), workspace.root):
        for name in _DVC:
            environment.pop(name, None)
    if not environment.get("HOME"):
        environment["HOME"] = _home_of_user() or str(workspace.var / "home")
    environment[VARIABLE] = str(keras_home(environment))
    environment |= DECIDING | quiet_environment(workspace, environment)
    return _reaching_loopback(environment)


def begin_plainly() -> None:
    """Starts this process again if the interpreter itself was told what would lead it astray.

    Python reads some variables only at its start. Where they are in order, as on most machines,
    nothing happens.
    """
    wrong = [name for name in PYTHON if name in os.environ]
    # A locale without UTF-8 would garble names, or fail at the first that it cannot spell.
    if not wrong and locale.getpreferredencoding(False).lower().replace("-", "") == "utf8":
        return
    environment = {name: text for name, text in os.environ.items() if name not in PYTHON}
    if not wrong and environment.get("PYTHONUTF8") == "1":
        return
    environment["PYTHONUTF8"] = "1"
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _is_left_out(name: str) -> bool:
    if name in ASTRAY or name in PYTHON or name in PLACES:
        return True
    if name in DECIDING or name.startswith(_KEPT):
        return False
    return name.startswith(LEFT_OUT)


def _told(given: Mapping[str, str], environment: Mapping[str, str]) -> list[str]:
    """One line on what would have decided, and one on proxies that cannot be spoken to."""
    lines = []
    unused = [
        name
        for name, text in given.items()
        if name not in _SILENT
        and ((name.startswith(LEFT_OUT) and name not in environment) or name in DECIDING)
        and environment.get(name) != text
    ]
    # A process that inherits a settled environment need not say it again.
    if VARIABLE not in given and (path := foreign_settings(Path(environment[VARIABLE]))):
        unused.append(str(path))
    if unused:
        lines.append(
            f"not used, since only parameters decide what comes out: {', '.join(sorted(unused))}"
        )
    proxies = [name for name in given if name.lower() in _PROXIES and name not in environment]
    if proxies:
        lines.append(
            f"not used, since no SOCKS proxy can be spoken to from here: {', '.join(proxies)}; "
            "an http proxy can: HTTPS_PROXY=http://HOST:PORT"
        )
    return lines


def _of_another_stage(dvc_root: str | None, root: Path) -> bool:
    """Whether DVC's variables are those of a stage of some other pipeline around this one."""
    if not dvc_root:
        return False
    origin, here = Path(dvc_root).resolve(), root.resolve()
    return here != origin and not here.is_relative_to(origin / ".dvc" / "tmp" / "exps")


def _home_of_user() -> str | None:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return None


def _reaching_loopback(environment: dict[str, str]) -> dict[str, str]:
    """Has this machine's own servers asked directly; all other addresses go through the proxy."""
    proxies = {name: text for name, text in environment.items() if name.lower() in _PROXIES}
    # httpx fails over a proxy that it cannot speak to even where it is not to be asked.
    unusable = {name for name, text in proxies.items() if not _usable(text)}
    environment = {name: text for name, text in environment.items() if name not in unusable}
    if not any(text for name, text in proxies.items() if name not in unusable):
        return environment
    # Of the two spellings Python takes the lower one.
    spared = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = [host for part in spared.split(",") if (host := part.strip())]
    if "*" not in hosts:
        hosts += [host for host in _LOOPBACK if host not in hosts]
    return environment | dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(hosts))


def _usable(proxy: str) -> bool:
    scheme = urlsplit(proxy).scheme.lower() if "://" in proxy else "http"
    if not proxy or scheme in ("http", "https"):
        return True
    return scheme in _SOCKS and importlib.util.find_spec(_SOCKS[scheme]) is not None


def quiet_environment(
    workspace: Workspace, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Defaults for what the environment leaves open: telemetry off, state under ``var/``.

    Args:
        workspace: Whose ``var/`` holds Prefect's database.
        environment: What is set already; by default this process's environment.

    Returns:
        Only what is not set yet; ``os.environ | quiet_environment(workspace)`` is complete.
    """
    given = os.environ if environment is None else environment
    defaults = dict(_QUIET)
    # DVC's own choice, /var/tmp/dvc, is one folder for all users of the machine, each of whom may
    # replace what lies there; DVC unpickles it. The same place stands in .dvc/config.
    defaults["DVC_SITE_CACHE_DIR"] = str((workspace.var / "dvc").absolute())
    # Each try waits twice as long as the one before: seven outlast three minutes.
    tries = max(1, math.ceil(math.log2(patience_s() + 2)) - 1)
    defaults["PREFECT_CLIENT_MAX_RETRIES"] = str(tries)
    defaults["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = str(min(tries, _MLFLOW_TRIES))
    if prefect_address(given, workspace.root) is None:
        defaults["PREFECT_HOME"] = str(prefect_home(workspace))
    return {name: value for name, value in defaults.items() if name not in given}


def prefect_home(workspace: Workspace) -> Path:
    """Where the Prefect server of one's own keeps its database."""
    return workspace.var / "prefect"


def prefect_address(environment: Mapping[str, str], directory: Path) -> str | None:
    """The address of the Prefect API that the user has chosen, if any."""
    return _prefect_setting("url", environment, directory)


def prefect_login(environment: Mapping[str, str], directory: Path) -> str | None:
    """What Prefect's client tells that API to be let in, as a header has it; None if nothing."""
    if login := _prefect_setting("auth_string", environment, directory):
        return f"Basic {base64.b64encode(login.encode()).decode()}"
    key = _prefect_setting("key", environment, directory)
    return f"Bearer {key}" if key else None


def _prefect_setting(name: str, environment: Mapping[str, str], directory: Path) -> str | None:
    """A setting of Prefect's section ``api``.

    Looked for where Prefect looks, in its order: the environment, ``.env``, ``prefect.toml``,
    ``pyproject.toml`` and the active profile. Prefect itself is not asked, since importing it
    takes seconds in which its server can already be starting.
    """
    variable = f"PREFECT_API_{name.upper()}"
    if text := environment.get(variable):
        return text
    candidates = (
        _dotenv(directory / ".env").get(variable),
        _nested(_toml(directory / "prefect.toml"), "api", name),
        _nested(_toml(directory / "pyproject.toml"), "tool", "prefect", "api", name),
        _profile(environment).get(variable),
    )
    return next((str(text) for text in candidates if text), None)


def tracking_address(environment: Mapping[str, str]) -> str | None:
    """The address of the MLflow server that the user has chosen, if any; that of no database."""
    address = environment.get("MLFLOW_TRACKING_URI", "")
    return address if address.startswith(("http://", "https://")) else None


def patience_s() -> float:
    """How long the middle of a run waits for a server that is away, in seconds.

    Raises:
        ParamsError: If the environment names no such time.
    """
    text = os.environ.get(PATIENCE_VARIABLE) or str(_PATIENCE_S)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ParamsError(
            f"{PATIENCE_VARIABLE} is {text!r}",
            where=f"the environment variable {PATIENCE_VARIABLE}",
            allowed="a number of seconds, 0 or more",
            fix=f"set it so, or unset it: {_PATIENCE_S:g} s are waited then",
        )
    return seconds


def _profile(environment: Mapping[str, str]) -> dict[str, Any]:
    home = Path(environment.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    path = Path(environment.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    profiles = _toml(path.expanduser())
    name = environment.get("PREFECT_PROFILE") or profiles.get("active")
    profile = _nested(profiles, "profiles", str(name))
    return profile if isinstance(profile, dict) else {}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        # Prefect says what is wrong with its own files better than this look ahead could.
        return {}


def _dotenv(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.removeprefix("export ").partition("=") for line in lines if "=" in line)
    return {name.strip().upper(): value.strip().strip("'\"") for name, _, value in pairs}


def _nested(record: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(record, dict):
            return None
        record = record.get(key)
    return record
