"""Every command of docs/your-own-project.md is run, in its order, on photographs of somebody's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.flows.toy import CHECKOUT

pytestmark = pytest.mark.slow

PAGE = CHECKOUT / "docs" / "your-own-project.md"
COLOURS = {"rose": (200, 40, 60), "tulip": (230, 200, 40), "violet": (110, 60, 180)}
IMAGES = 40
LIMIT_S = 3600


def commands() -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def take_photographs(folder: Path) -> None:
    random = np.random.default_rng(5)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(1, IMAGES + 1):
            pixels = random.normal(colour, 30, (180, 200, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def test_each_command_does_what_the_page_says(tmp_path: Path) -> None:
    place = tmp_path / "Blüten und so"
    take_photographs(place / "photos")
    environment = {
        name: text
        for name, text in os.environ.items()
        if name not in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME")
    }
    environment["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    blocks = [f"echo '== {number}'\n{block}" for number, block in enumerate(commands())]
    # Whatever happens, nothing stays up.
    script = ["set -euo pipefail", "trap 'graftline -C \"$PLACE/flowers\" down' EXIT", *blocks]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=place,
        env=environment | {"PLACE": str(place)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    said = dict(enumerate(re.split(r"^== \d+$", done.stdout, flags=re.MULTILINE)[1:]))
    assert done.returncode == 0, done.stdout
    words = {number: " ".join(text.split()) for number, text in said.items()}
    assert "120 colour images of 3 classes" in words[0]
    assert "All is well." in words[0]
    assert "was promoted as the first champion" in words[1]
    assert "rose" in words[1].partition("Done in")[2]
    assert "train executed" in words[2] and "load cached" in words[2]
    second = words[5]
    assert "Data and pipelines are up to date." in second
    assert not re.search(r"(load|extract|train|evaluate) +executed", second), second
    assert "was promoted as the first champion" in second
    assert re.search(r"runs retrain/nightly-flowers-[0-9a-f]{6}: 30 2 \* \* \*", words[6])
    assert "stopped" in words[6]
    assert re.search(r"[01]\.\d+ 12", words[7])
    assert "clean executed" in words[8] and "load executed" in words[8]
