from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import getproxies_environment, proxy_bypass_environment

import pytest
from hypothesis import given as over
from hypothesis import strategies as st

from graftline.core.environment import (
    PATIENCE_VARIABLE,
    patience_s,
    prefect_address,
    quiet_environment,
    settle,
    settled,
)
from graftline.core.errors import ParamsError
from graftline.core.keras_home import SETTINGS, keras_home
from graftline.core.workspace import Workspace

ADDRESS = "http://prefect.example:4200/api"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment whose Prefect settings lie in an empty folder."""
    return {"PREFECT_HOME": str(tmp_path / "prefect-home")}


def test_telemetry_is_off_and_prefect_at_home_in_var(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    defaults = quiet_environment(workspace, {"PREFECT_PROFILES_PATH": str(tmp_path / "none")})
    assert defaults["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert defaults["DO_NOT_TRACK"] == "true"
    assert defaults["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert defaults["PREFECT_HOME"] == str(workspace.var / "prefect")


@pytest.mark.parametrize(("given", "seconds"), [(None, 180), ("5", 5), ("0", 0), ("2.5", 2.5)])
def test_how_long_a_server_is_waited_for(
    given: str | None, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PATIENCE_VARIABLE, raising=False)
    if given:
        monkeypatch.setenv(PATIENCE_VARIABLE, given)
    assert patience_s() == seconds
    tries = int(quiet_environment(Workspace(tmp_path), {})["PREFECT_CLIENT_MAX_RETRIES"])
    assert seconds <= sum(2**number for number in range(1, tries + 1)) <= 2 * seconds + 4


@pytest.mark.parametrize("given", ["soon", "-1", "inf", "nan"])
def test_a_wait_that_is_none_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, given)
    with pytest.raises(ParamsError, match=f"{PATIENCE_VARIABLE} is '{given}'"):
        patience_s()


def test_dvc_keeps_nothing_where_other_users_may_write(tmp_path: Path) -> None:
    """Its own choice is ``/var/tmp/dvc``, open to all; ``dvc checkout`` unpickles what is there."""
    defaults = quiet_environment(Workspace(tmp_path), {})
    assert defaults["DVC_SITE_CACHE_DIR"] == str(tmp_path / "var" / "dvc")
    config = Path(__file__).parents[3] / ".dvc" / "config"
    assert "\n    site_cache_dir = var/dvc\n" in config.read_text(encoding="utf-8")
    settings = {"DVC_NO_ANALYTICS": "true", "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, env=settings, check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "var").mkdir(mode=0o700)
    shutil.copy(config, tmp_path / ".dvc" / "config")
    code = "import dvc.repo; print(dvc.repo.Repo().site_cache_dir)"
    python = [sys.executable, "-c", code]
    told = subprocess.run(python, cwd=tmp_path, env=settings, check=True, capture_output=True)
    assert told.stdout.decode().startswith("var/dvc/repo/")
    assert len(list((tmp_path / "var" / "dvc" / "repo").iterdir())) == 1


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    given = {"PREFECT_HOME": "/mine", "MLFLOW_DISABLE_TELEMETRY": "false"}
    assert not given.keys() & quiet_environment(Workspace(tmp_path), given).keys()


def test_a_chosen_api_keeps_its_own_home(tmp_path: Path) -> None:
    given = {"PREFECT_API_URL": ADDRESS}
    assert "PREFECT_HOME" not in quiet_environment(Workspace(tmp_path), given)


def test_no_address_without_a_choice(tmp_path: Path, home: dict[str, str]) -> None:
    assert prefect_address(home, tmp_path) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".env", f"# mine\nexport PREFECT_API_URL='{ADDRESS}'\n"),
        ("prefect.toml", f'[api]\nurl = "{ADDRESS}"\n'),
        ("pyproject.toml", f'[tool.prefect.api]\nurl = "{ADDRESS}"\n'),
        (
            "prefect-home/profiles.toml",
            f'active = "work"\n[profiles.work]\nPREFECT_API_URL = "{ADDRESS}"\n[profiles.other]\n',
        ),
    ],
)
def test_the_address_is_found_where_prefect_finds_it(
    tmp_path: Path, home: dict[str, str], name: str, text: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    assert prefect_address(home, tmp_path) == ADDRESS
    assert prefect_address({**home, "PREFECT_API_URL": "http://nearer/api"}, tmp_path) == (
        "http://nearer/api"
    )


def test_another_profile_may_be_chosen(tmp_path: Path, home: dict[str, str]) -> None:
    path = tmp_path / "prefect-home" / "profiles.toml"
    path.parent.mkdir()
    path.write_text(
        f'active = "work"\n[profiles.work]\nPREFECT_API_URL = "{ADDRESS}"\n[profiles.other]\n',
        encoding="utf-8",
    )
    assert prefect_address({**home, "PREFECT_PROFILE": "other"}, tmp_path) is None


def test_files_that_are_no_toml_are_left_to_prefect(tmp_path: Path, home: dict[str, str]) -> None:
    (tmp_path / "prefect.toml").write_bytes(b"\xff[")
    assert prefect_address(home, tmp_path) is None


HOSTILE = {
    "KERAS_BACKEND": "torch",
    "KERAS_MAX_EPOCHS": "1",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "KERAS_NNX_ENABLED": "true",
    "MKL_CBWR": "COMPATIBLE",
    "NPY_DISABLE_CPU_FEATURES": "AVX2",
    "NVIDIA_TF32_OVERRIDE": "1",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "TF_DETERMINISTIC_OPS": "1",
    "TF_ENABLE_AUTO_MIXED_PRECISION": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_USE_LEGACY_KERAS": "1",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2",
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
}
ASTRAY = {
    "GIT_DIR": "/somewhere/.git",
    "GIT_INDEX_FILE": "/somewhere/index",
    "GIT_WORK_TREE": "/somewhere",
    "MATPLOTLIBRC": "/somewhere/matplotlibrc",
    "MLFLOW_EXPERIMENT_ID": "7",
    "MLFLOW_RUN_ID": "0" * 32,
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
}
RESPECTED = {
    "CUDA_VISIBLE_DEVICES": "1",
    "GIT_CONFIG_COUNT": "0",
    "HDF5_USE_FILE_LOCKING": "FALSE",
    "MLFLOW_EXPERIMENT_NAME": "mine",
    "MLFLOW_TRACKING_URI": "http://tracking.example",
    "OMP_NUM_THREADS": "3",
    "PREFECT_LOGGING_LEVEL": "DEBUG",
    "PYTHONPATH": "/mine",
    "REQUESTS_CA_BUNDLE": "/mine/ca.pem",
    "TF_CPP_MIN_LOG_LEVEL": "0",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "TF_NUM_INTRAOP_THREADS": "3",
    "TF_VAR_region": "of Terraform",
    "TMPDIR": "/mine/tmp",
}
DECIDED = {
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": str(SETTINGS),
    "MATPLOTLIBRC": "/dev/null",
    "MPLBACKEND": "Agg",
    "TF_ENABLE_ONEDNN_OPTS": "1",
}


def test_what_would_decide_is_set_or_left_out(tmp_path: Path) -> None:
    given = {"HOME": str(tmp_path), **HOSTILE, **ASTRAY, **RESPECTED}
    own = settled(Workspace(tmp_path), given)
    assert {name: own[name] for name in DECIDED} == DECIDED
    assert not ((HOSTILE.keys() | ASTRAY.keys()) - DECIDED.keys()) & own.keys()
    assert {name: own[name] for name in RESPECTED} == RESPECTED
    assert json.loads((SETTINGS / "keras.json").read_text()) == {
        "backend": "tensorflow",
        "epsilon": 1e-7,
        "floatx": "float32",
        "image_data_format": "channels_last",
    }


NAMES = st.sampled_from(
    [
        *(HOSTILE | ASTRAY | RESPECTED),
        *("HOME", "KERAS_HOME", "GRAFTLINE_KERAS_HOME", "DVC_ROOT", "DVC_STAGE"),
        *("HTTP_PROXY", "https_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"),
    ]
)
TEXTS = st.sampled_from(["", "1", "/mine", "http://proxy.example:3128", "socks5://p:1", "a, *"])


@over(st.dictionaries(NAMES, TEXTS))
def test_an_environment_in_order_stays_as_it_is(given: dict[str, str]) -> None:
    workspace = Workspace(Path("/no/checkout"))
    once = settled(workspace, given)
    assert settled(workspace, once) == once


def test_one_line_tells_what_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "keras"
    home.mkdir()
    (home / "keras.json").write_text('{"floatx": "float16"}')
    monkeypatch.setattr(os, "environ", {"KERAS_HOME": str(home), **HOSTILE, **ASTRAY, **RESPECTED})
    settle(Workspace(tmp_path))
    said = capsys.readouterr().err
    wanted = ", ".join(sorted([*HOSTILE, str(home / "keras.json")]))
    assert said == f"not used, since only parameters decide what comes out: {wanted}\n"
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    # What this process starts has nothing to tell any more.
    settle(Workspace(tmp_path))
    assert capsys.readouterr().err == ""


def test_keras_own_default_settings_are_nothing_to_tell_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text((SETTINGS / "keras.json").read_text())
    monkeypatch.setattr(os, "environ", {"KERAS_HOME": str(tmp_path / ".keras")})
    settle(Workspace(tmp_path))
    assert capsys.readouterr().err == ""


def test_downloads_are_still_looked_for_in_the_users_folder(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    chosen = settled(workspace, {"KERAS_HOME": "/mine/keras"})
    assert keras_home(chosen) == Path("/mine/keras")
    # In another checkout, which a process of this one has started.
    elsewhere = {**chosen, "KERAS_HOME": "/other/graftline/keras_settings"}
    assert keras_home(settled(workspace, elsewhere)) == Path("/mine/keras")


def test_this_machine_is_asked_directly_and_all_others_through_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"HTTP_PROXY": "http://proxy:3128", "https_proxy": "http://proxy:3128"}
    own = settled(Workspace(tmp_path), {**given, "NO_PROXY": "internal.example"})
    assert own["no_proxy"] == own["NO_PROXY"] == "internal.example,localhost,127.0.0.1,::1"
    monkeypatch.setattr(os, "environ", own)
    proxies = getproxies_environment()
    for host in ("127.0.0.1", "localhost", "internal.example"):
        assert proxy_bypass_environment(host, proxies), host
    assert not proxy_bypass_environment("storage.googleapis.com", proxies)
    assert proxies["https"] == "http://proxy:3128"


def test_without_a_proxy_nothing_is_said_of_any(tmp_path: Path) -> None:
    assert not {"no_proxy", "NO_PROXY"} & settled(Workspace(tmp_path), {}).keys()
    all_spared = settled(Workspace(tmp_path), {"HTTP_PROXY": "http://proxy", "no_proxy": "*"})
    assert all_spared["no_proxy"] == "*"


CLIENTS = """
import http.server, sys, threading
from pathlib import Path
from graftline.core.environment import settle
from graftline.core.workspace import Workspace
settle(Workspace(Path(sys.argv[1])))
import httpx, requests, urllib.request

class Here(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Here)
threading.Thread(target=server.serve_forever, daemon=True).start()
here = f"http://127.0.0.1:{server.server_address[1]}/api/health"
print(httpx.get(here).status_code, requests.get(here).status_code)
print(urllib.request.urlopen(here).status)
try:
    httpx.get("http://example.invalid/", timeout=5)
except httpx.ConnectError as error:
    print("refused" in str(error))
"""


def test_the_clients_reach_this_machine_past_a_dead_proxy(tmp_path: Path) -> None:
    """httpx as Prefect uses it, requests as MLflow does, and urllib."""
    dead = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy"), "http://127.0.0.1:9")
    dead |= dict.fromkeys(("ALL_PROXY", "all_proxy"), "socks5://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-c", CLIENTS, str(tmp_path)],
        env={**os.environ, **dead},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["200", "200", "200", "True"], done.stderr
    assert "no SOCKS proxy can be spoken to from here: ALL_PROXY, all_proxy" in done.stderr


def test_a_stage_around_this_one_is_none_of_this_pipeline(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    around = {"DVC_ROOT": "/other", "DVC_STAGE": "theirs", "DVC_EXP_NAME": "theirs"}
    assert not around.keys() & settled(workspace, around).keys()
    own = {"DVC_ROOT": str(tmp_path), "DVC_STAGE": "load"}
    assert own.items() <= settled(workspace, own).items()
    copy = Workspace(tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "x" / "work")
    assert own.items() <= settled(copy, own).items()


def test_where_there_is_no_home_one_is_found(tmp_path: Path) -> None:
    assert settled(Workspace(tmp_path), {"HOME": ""})["HOME"]
    assert settled(Workspace(tmp_path), {"HOME": "/mine"})["HOME"] == "/mine"


FIGURE = """
import sys
from pathlib import Path
from graftline.core.environment import settle
from graftline.core.workspace import Workspace
settle(Workspace(Path(sys.argv[1])))
from graftline.evaluation.style import new_figure, save, styled

@styled
def draw():
    figure = new_figure("A title", "of $x$", 4, 3)
    figure.add_subplot().plot([1, 3, 2])
    return figure

save(draw(), Path(sys.argv[1]) / "figure.png")
"""


@pytest.mark.slow
def test_figures_do_not_know_the_users_matplotlibrc(tmp_path: Path) -> None:
    def drawn(folder: Path, environment: dict[str, str]) -> bytes:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", FIGURE, str(folder)]
        subprocess.run(command, cwd=folder, check=True, env={**os.environ, **environment})
        return (folder / "figure.png").read_bytes()

    theirs = "text.usetex: True\nfont.size: 40\nsavefig.bbox: tight\nbackend: module://none\n"
    theirs += "figure.dpi: 30\naxes.facecolor: red\nsavefig.facecolor: red\n"
    hostile = tmp_path / "hostile"
    (hostile / "config").mkdir(parents=True)
    for place in (hostile / "matplotlibrc", hostile / "config" / "matplotlibrc"):
        place.write_text(theirs)
    given = {"MPLBACKEND": ASTRAY["MPLBACKEND"], "MATPLOTLIBRC": str(hostile / "matplotlibrc")}
    plain = drawn(tmp_path / "plain", {})
    assert drawn(hostile, {**given, "MPLCONFIGDIR": str(hostile / "config")}) == plain


def test_the_interpreter_starts_again_without_what_misleads_it(tmp_path: Path) -> None:
    script = tmp_path / "said.py"
    script.write_text(
        "import json, os, sys\n"
        "from graftline.core.environment import PYTHON, begin_plainly\n"
        "begin_plainly()\n"
        "print(json.dumps([sys.argv[1:], __debug__, sys.warnoptions, sys.stdout.encoding,\n"
        "                  sorted(set(PYTHON) & os.environ.keys())]))\n"
    )
    given = {"PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "ascii"}
    given |= {"PYTHONINSPECT": "1", "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, str(script), "a b", "ü"],
        env={**os.environ, **given, "PYTHONUTF8": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    said = json.loads(done.stdout)
    assert said == [["a b", "ü"], True, [], "utf-8", []], done.stderr


DOORS = (
    *(
        "graftline.cli.main",
        "graftline.orchestration.launch",
        "graftline.orchestration.predict_run",
        "graftline.cli.projects",
    ),
    "flows.serve",
)


@pytest.mark.parametrize("door", DOORS)
def test_no_door_imports_what_reads_the_environment_before_it_is_in_order(door: str) -> None:
    script = (
        f"import {door}, sys; print([name for name in ('numpy', 'matplotlib', 'keras',"
        "'tensorflow', 'prefect', 'mlflow', 'httpx', 'requests') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[3],
        # What comes before begin_plainly must bear this.
        env={**os.environ, "PYTHONWARNINGS": "error"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]"


KERAS = """
import json, sys
from pathlib import Path
from graftline.core.environment import settle
from graftline.core.startup import import_keras
from graftline.core.workspace import Workspace
settle(Workspace(Path(sys.argv[1])))
import_keras()
import keras, tensorflow as tf
config = keras.config
print(json.dumps([config.backend(), config.floatx(), config.epsilon(),
    config.image_data_format(), config.max_epochs(), tf.keras.__version__[:2]]))
"""


@pytest.mark.slow
def test_keras_and_tensorflow_are_as_ever_in_a_hostile_environment(tmp_path: Path) -> None:
    folder = tmp_path / ".keras"
    folder.mkdir()
    theirs = {"backend": "jax", "floatx": "float16", "epsilon": 0.1}
    text = json.dumps({**theirs, "image_data_format": "channels_first"})
    (folder / "keras.json").write_text(text)
    environment = {name: text for name, text in os.environ.items() if name != "KERAS_HOME"}
    done = subprocess.run(
        [sys.executable, "-c", KERAS, str(tmp_path)],
        env={**environment, **HOSTILE, "HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    wanted = ["tensorflow", "float32", 1e-7, "channels_last", None, "3."]
    assert json.loads(done.stdout) == wanted
    assert (folder / "keras.json").read_text() == text
