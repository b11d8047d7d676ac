"""Only what a stage reads keeps a run from being reproduced."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from graftline.core.uncommitted import uncommitted_files

DVC = """\
stages:
  clean:
    cmd: python scripts/clean.py --fast
    deps: [scans, scripts/clean.py]
    params: [{clean.yaml: [size]}]
    outs: [images]
  load:
    cmd: python -m graftline load
    deps: ["${data.path}/."]
    params: [seed, data, {graftline.lock: [steps.load]}]
    outs: [data/loaded]
  count:
    foreach: [a, b]
    do:
      cmd:
        - python -m counting.words "${item}"
        - sh tools/count.sh
      outs: ["counts/${item}"]
"""
FILES = {
    "dvc.yaml": DVC,
    "params.yaml": "seed: 0\ndata: {path: images}\nnotify: {webhook: null}\n",
    "clean.yaml": "size: 3\n",
    "graftline.lock": "steps: {}\n",
    "examples/.dvc/config": "",
    "examples/dvc.yaml": "stages: {look: {cmd: cat x, deps: [README.md]}}\n",
    "sub/dvc.yaml": "stages: {look: {cmd: python look.py, deps: [x.csv]}}\n",
    "sub/look.py": "",
    "sub/x.csv": "",
    "prefect.yaml": "cron: nightly\n",
    "flows/train.py": "",
    "scripts/clean.py": "import helper\nfrom shared import sizes\n",
    "scripts/helper.py": "",
    "scripts/other.py": "",
    "shared/sizes.py": "",
    "counting/words.py": "",
    "tools/count.sh": "",
    "scans/a.png": "",
    "README.md": "",
}
READ = {
    *("dvc.yaml", "clean.yaml", "graftline.lock", "scripts/clean.py", "scripts/helper.py"),
    *("shared/sizes.py", "counting/words.py", "tools/count.sh", "scans/a.png"),
    *("sub/dvc.yaml", "sub/look.py", "sub/x.csv"),
}


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture(params=[".", "work/vision"])
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    root = tmp_path / request.param
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "-qm", "first")
    return root


def test_what_a_stage_reads_counts_and_nothing_else(project: Path) -> None:
    assert uncommitted_files(project) == []
    for name in FILES:
        if name != "params.yaml":
            with (project / name).open("a") as file:
                file.write("# changed\n")
    assert set(uncommitted_files(project) or ()) == READ


def test_code_that_was_never_committed_counts_and_data_need_not_be_in_git(project: Path) -> None:
    git(project, "rm", "-q", "--cached", "scripts/helper.py", "tools/count.sh", "README.md")
    git(project, "commit", "-qm", "second")
    (project / "scans" / "b.png").write_text("new")
    assert uncommitted_files(project) == ["scripts/helper.py", "tools/count.sh"]


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("# a comment\n" + FILES["params.yaml"], False),
        (FILES["params.yaml"].replace("webhook: null", "webhook: x"), False),
        (FILES["params.yaml"].replace("seed: 0", "seed: 1"), True),
        (FILES["params.yaml"] + "register: {model_name: x}\n", True),
        ("seed: [", True),
    ],
)
def test_parameters_count_where_a_step_reads_them(project: Path, text: str, counts: bool) -> None:
    (project / "params.yaml").write_text(text)
    assert uncommitted_files(project) == (["params.yaml"] if counts else [])
