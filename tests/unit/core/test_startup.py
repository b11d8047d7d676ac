"""Processes that begin and end quickly do all that others do."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from graftline.core.startup import THRESHOLDS, module_command


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_module_runs_as_under_m() -> None:
    # json.tool says what it was given by its exit code and its output.
    assert (
        output(*module_command("json.tool", "--help")).splitlines()[1:]
        == (output(sys.executable, "-m", "json.tool", "--help").splitlines()[1:])
    )


def test_a_failing_module_has_its_exit_code() -> None:
    done = subprocess.run(
        module_command("json.tool", "/no/such/file"), capture_output=True, check=False
    )
    plain = [sys.executable, "-m", "json.tool", "/no/such/file"]
    assert done.returncode == subprocess.run(plain, capture_output=True, check=False).returncode
    assert done.returncode != 0


def test_garbage_is_looked_for_less_often_and_not_at_the_end() -> None:
    script = (
        "import atexit, gc, json\n"
        "atexit.register(lambda: print(json.dumps([gc.get_threshold(), gc.get_freeze_count()])))\n"
        "from graftline.core.startup import collect_rarely\n"
        "collect_rarely()\n"
    )
    thresholds, frozen = json.loads(output(sys.executable, "-c", script))
    assert tuple(thresholds) == THRESHOLDS
    assert frozen > 0


@pytest.mark.slow
def test_keras_comes_without_what_nothing_uses_and_that_can_be_had_afterwards() -> None:
    script = (
        "import sys\n"
        "from graftline.core.startup import import_keras\n"
        "import_keras()\n"
        "import keras\n"
        "unused = ('matplotlib', 'pandas', 'sklearn')\n"
        "print([name for name in unused if name in sys.modules])\n"
        "import matplotlib.figure, pandas, sklearn.linear_model\n"
        "print(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]).count_params())\n"
    )
    assert output(sys.executable, "-c", script).splitlines() == ["[]", "9"]
