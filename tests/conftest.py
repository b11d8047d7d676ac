"""Every test runs apart from the user's own servers, settings and histories."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from graftline.core.database_templates import begin_with_copy
from graftline.core.environment import DECIDING, settled
from graftline.core.keras_home import VARIABLE as KERAS_HOME_KEPT
from graftline.core.workspace import Workspace

# A shared machine may be slow for a moment; a slow example is no wrong one.
# With `--hypothesis-profile thorough` it looks at as many examples as Hypothesis does by default.
settings.register_profile("thorough", deadline=None, print_blob=True)
settings.register_profile("graftline", settings.get_profile("thorough"), max_examples=30)
settings.load_profile("graftline")

NOT_OURS = (
    "DVC_ROOT",
    "KERAS_HOME",
    KERAS_HOME_KEPT,
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_RUN_ID",
    "MLFLOW_TRACKING_URI",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_API_KEY",
    "PREFECT_API_URL",
    "PREFECT_PROFILE",
)

# The processes of pytest-xdist share the cores already, and these libraries' threads wait for each
# other by spinning: on a busy machine with two cores they took six times the CPU for small arrays.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS"),
    "1",
)


def pytest_configure(config: pytest.Config) -> None:
    """Sets the environment before any test module, and so Prefect or TensorFlow, is imported."""
    home = tempfile.mkdtemp(prefix="graftline-tests-")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    for name in NOT_OURS:
        os.environ.pop(name, None)
    own = settled(Workspace(Path(home)), os.environ)
    for name in [name for name in os.environ if name not in own]:
        del os.environ[name]
    os.environ |= {name: own[name] for name in ("no_proxy", "NO_PROXY") if name in own}
    os.environ |= DECIDING | {
        "DO_NOT_TRACK": "true",
        "DVC_GLOBAL_CONFIG_DIR": f"{home}/dvc-global",
        "DVC_NO_ANALYTICS": "true",
        "DVC_SITE_CACHE_DIR": f"{home}/dvc-site",
        "DVC_SYSTEM_CONFIG_DIR": f"{home}/dvc-system",
        "GIT_AUTHOR_EMAIL": "tests@localhost",
        "GIT_AUTHOR_NAME": "Tests",
        "GIT_COMMITTER_EMAIL": "tests@localhost",
        "GIT_COMMITTER_NAME": "Tests",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_HOME": f"{home}/prefect",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    os.environ |= ONE_THREAD
    begin_with_copy("prefect", Path(home, "prefect", "prefect.db"))
    # The objects of TensorFlow, MLflow and Prefect are many, and live as long as the process.
    gc.set_threshold(50_000, 50, 1000)


def pytest_collection_finish() -> None:
    """Leaves what the imports have made out of every later collection of garbage."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The files of ``--dist loadfile``, but those that share a Prefect server go to one process."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "flows" if nodeid.startswith("tests/flows/") else super()._split_scope(nodeid)

    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The checkout's root."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def params_text() -> str:
    """``params.yaml`` as git has it: somebody may be trying other values in the file."""
    from graftline.operations.project_files import copied_files

    return copied_files()["params.yaml"]
