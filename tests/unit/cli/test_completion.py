"""The script that completes in a shell is sourced by that shell, and completes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from graftline.cli.completion import SHELLS
from graftline.cli.main import main

ASKED = """
source {script}
COMP_WORDS=(graftline {words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_shtab_graftline graftline "${{COMP_WORDS[COMP_CWORD]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(params=SHELLS)
def script(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Path:
    assert main(["completion", request.param]) == 0
    path = tmp_path / f"completion.{request.param}"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    return path


def test_the_shell_takes_it(script: Path) -> None:
    shell = script.suffix[1:]
    assert "reproduce" in script.read_text(encoding="utf-8")
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    subprocess.run([shell, "-n", str(script)], check=True)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("rep", ["reproduce"]),
        ("predict --to", ["--top"]),
        ("completion fi", ["fish"]),
        ("--dir", ["--directory"]),
    ],
)
def test_bash_completes(
    words: str, wanted: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "bash"]) == 0
    path = tmp_path / "completion.bash"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    asked = ASKED.format(script=path, words=words)
    done = subprocess.run(
        ["bash", "--norc", "-c", asked], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == wanted
