"""A generated project under an installed library: every door, below a bigger repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import graftline
from graftline.core.stages import STAGES

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 1800.0
SMALL = (
    *("preprocess.size_px=32", "backbone.alpha=0.35", "backbone.weights=random"),
    *("backbone.cut=block_6_expand_relu", "head.units=[8]", "train.epochs=10"),
    *("train.learning_rate=0.01", "augment.flip=none", "promote.min_accuracy=0.3"),
)


# The editable install of this checkout is read from no .pth there.
OTHERS = "\n".join(path for path in sys.path if path.endswith("site-packages"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel, which has this one's other packages."""
    return installed(ROOT, tmp_path_factory.mktemp("installed"))


def built(source: Path, folder: Path) -> Path:
    """The wheel of a checkout."""
    build = ("build", "--wheel", "--no-build-isolation", "--quiet")
    subprocess.run(["uv", *build, "--out-dir", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("graftline-*.whl")
    return wheel


def installed(source: Path, folder: Path) -> Path:
    """A new environment with a checkout's wheel before this one's other packages."""
    place = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    (packages,) = (place / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(OTHERS)
    python = str(place / "bin" / "python")
    install = ("pip", "install", "--quiet", "--no-deps", "--python", python)
    subprocess.run(["uv", *install, str(built(source, folder))], check=True)
    return place


def checkout(place: Path, changes: Mapping[str, tuple[str, str]]) -> Path:
    """A copy of this checkout in which texts stand for others, by file."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name)
    for name, (before, after) in changes.items():
        text = (place / name).read_text(encoding="utf-8")
        assert before in text, (name, before)
        (place / name).write_text(text.replace(before, after, 1), encoding="utf-8")
    return place


def stub(folder: Path, name: str) -> None:
    """A wheel with a package's name and version, and nothing in it."""
    version = metadata.version(name)
    stem = f"{name.replace('-', '_')}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        for file, text in {
            "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }.items():
            archive.writestr(f"{stem}.dist-info/{file}", text)


class Project:
    """Where commands run as a user's do."""

    def __init__(self, root: Path, environment: Path) -> None:
        self.root, self.environment = root, environment

    def start(self, *command: str, **more: str) -> subprocess.Popen[str]:
        """Starts a command with the environment's interpreter first on the path."""
        binaries = self.environment / "bin"
        own = {name: text for name, text in os.environ.items() if name not in HIDDEN}
        own |= {"PATH": os.pathsep.join((str(binaries), "/usr/bin", "/bin")), **more}
        words = {"graftline": (str(binaries / "graftline"),), "python": (str(binaries / "python"),)}
        first = words.get(command[0], (str(binaries / "python"), "-m", command[0]))
        return subprocess.Popen(
            command if command[0] == "git" else (*first, *command[1:]),
            cwd=self.root,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, code: int = 0, **more: str) -> str:
        """Runs a command to its end; what it printed, in one line."""
        process = self.start(*command, **more)
        said, _ = process.communicate(timeout=LIMIT_S)
        assert process.returncode == code, said
        return " ".join(said.split())

    def commit(self, message: str) -> None:
        """Commits everything, as a user does."""
        self.run("git", "add", "--all", ".")
        self.run("git", "commit", "--quiet", "--message", message)


NO_INDEX = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
HIDDEN = ("PYTHONPATH", "PREFECT_HOME", "PREFECT_API_URL", "PREFECT_API_AUTH_STRING")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, environment: Path) -> Project:
    """A project below a bigger repository, after its first run, committed."""
    above = tmp_path_factory.mktemp("größeres Haus")
    images = above.parent / f"{above.name} Bilder"
    rng = np.random.default_rng(0)
    for number, label in enumerate(("hell", "müde", "dunkel")):
        (images / label).mkdir(parents=True)
        for index in range(40):
            pixels = rng.integers(0, 60, (40, 40, 3), dtype=np.uint8)
            pixels[:, number * 13 : number * 13 + 12] += 150
            Image.fromarray(pixels).save(images / label / f"{index}.png")
    home = Project(above, environment)
    home.run("git", "init", "--quiet")
    home.run("git", "commit", "--quiet", "--allow-empty", "--message", "a bigger repository")
    said = home.run("graftline", "init", "für mich/blüten", "--images", str(images))
    assert "120 colour images of 3 classes" in said
    assert f"lies in the repository {above}" in said
    made = Project(above / "für mich" / "blüten", environment)
    made.commit("a new project")
    where = made.run("python", "-c", "import graftline; print(graftline.__file__)")
    assert where.startswith(str(environment))
    settings = [word for one in SMALL for word in ("--set", one)]
    said = made.run("graftline", "run", *settings)
    assert "promoted as the first champion" in said, said
    made.commit("the first run")
    return made


def test_dvc_has_nothing_to_do_after_a_flow(project: Project) -> None:
    assert "Data and pipelines are up to date" in project.run("dvc", "repro")
    assert project.run("git", "status", "--short", ".") == ""
    assert "executed" not in project.run("graftline", "run")


def test_its_own_tests_pass(project: Project) -> None:
    started_s = time.monotonic()
    assert re.search(r"\d passed", project.run("pytest", "-q"))
    assert time.monotonic() - started_s < 60


def test_its_model_answers(project: Project, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (0, 0, 200)).save(tmp_path / "ö x.png")
    said = project.run("graftline", "predict", "--json", str(tmp_path / "ö x.png"))
    assert '"label"' in said
    out = str(tmp_path / "out.parquet")
    said = project.run("python", "-m", "flows.predict", str(tmp_path), "--out", out)
    assert "images 1:" in said
    process = project.start("graftline", "serve", "--port", "0")
    assert process.stdout is not None
    try:
        lines = iter(process.stdout.readline, "")
        address = next(
            found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+", line))
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("no_proxy", "*")
            from urllib.request import urlopen

            with urlopen(f"{address}/health") as answer:
                assert answer.status == 200
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_it_is_up_and_down(project: Project) -> None:
    said = project.run("graftline", "up", "--prefect-port", "0", "--mlflow-port", "0")
    try:
        assert "runs retrain/nightly-bluten" in said
    finally:
        assert "stopped" in project.run("graftline", "down")


def test_a_second_clone_pulls_and_has_nothing_to_compute(project: Project, tmp_path: Path) -> None:
    above = project.root.parents[1]
    project.run("dvc", "remote", "add", "--default", "--force", "here", str(tmp_path / "remote"))
    project.commit("a remote")
    project.run("dvc", "push")
    Project(tmp_path, project.environment).run("git", "clone", "--quiet", str(above), "zwei ä")
    second = Project(tmp_path / "zwei ä" / "für mich" / "blüten", project.environment)
    second.run("dvc", "pull")
    assert "Data and pipelines are up to date" in second.run("dvc", "status")
    assert "executed" not in second.run("graftline", "run").partition("register")[0]


def test_a_worktree_is_a_project_too(project: Project, tmp_path: Path) -> None:
    project.run("git", "worktree", "add", "--quiet", "--detach", str(tmp_path / "baum"), "HEAD")
    tree = Project(tmp_path / "baum" / "für mich" / "blüten", project.environment)
    said = tree.run("graftline", "run", "--set", "seed=1")
    assert all(f"{stage} executed" in said for stage in STAGES)
    assert "Data and pipelines are up to date" in tree.run("dvc", "status")


def test_a_run_is_reproduced_by_its_own_code_or_not_at_all(project: Project) -> None:
    version = champion(project)
    said = project.run("graftline", "reproduce", version)
    assert "the same came out, to the last bit" in said
    (package,) = (project.environment / "lib").glob("python*/site-packages/graftline")
    module = package / "steps" / "train.py"
    text = module.read_text(encoding="utf-8")
    module.write_text(f"{text}\n# another version\n", encoding="utf-8")
    try:
        said = project.run("graftline", "reproduce", version, code=2, **NO_INDEX)
        assert "in which the code of train is another" in said
        assert "could not be installed: pip answered:" in said
        assert "pip install graftline==" in said
        assert "stale train: their code" in project.run("graftline", "upgrade")
        assert project.run("dvc", "status", "--json").count('"train"') == 1
    finally:
        module.write_text(text, encoding="utf-8")
        project.run("git", "checkout", "--", ".")


def test_a_run_of_another_version_is_run_by_that_version(project: Project, tmp_path: Path) -> None:
    asked = re.search(r"(?m)^dependencies = \[\n.*?^\]\n", PYPROJECT, re.DOTALL)
    assert asked is not None
    # What the index has: the version of the run, which finds all other packages here.
    earlier = checkout(tmp_path / "earlier", {"pyproject.toml": (asked[0], "")})
    settings = earlier / "pyproject.toml"
    data = '[tool.hatch.build.targets.wheel.force-include]\n"others.pth" = "others.pth"\n'
    settings.write_text(settings.read_text().replace(data.partition("\n")[0] + "\n", data))
    (earlier / "others.pth").write_text(OTHERS)
    index = tmp_path / "index"
    built(earlier, index)
    for name in ("tensorflow", "keras", "ai-edge-litert"):
        stub(index, name)
    # What is installed: a later one, whose step train is another.
    number, step = f'"{graftline.__version__}"', "graftline/steps/train.py"
    first = (ROOT / step).read_text(encoding="utf-8").partition("\n")[0]
    later = checkout(
        tmp_path / "later",
        {
            "pyproject.toml": (f"version = {number}", 'version = "99.1"'),
            "graftline/__init__.py": (f"__version__ = {number}", '__version__ = "99.1"'),
            step: (first, f"# Another.\n{first}"),
        },
    )
    upgraded = Project(project.root, installed(later, tmp_path))
    shown = {**NO_INDEX, "PIP_FIND_LINKS": str(index)}
    said = upgraded.run("graftline", "reproduce", champion(project), **shown)
    assert f"was made with graftline {graftline.__version__}, and here is graftline 99.1" in said
    assert f"graftline {graftline.__version__} is installed from the package index" in said
    assert f"by graftline {graftline.__version__}: the same came out, to the last bit" in said
    assert upgraded.run("graftline", "--version") == "graftline 99.1"
    assert project.run("git", "status", "--short", ".") == ""


def champion(project: Project) -> str:
    versions: list[dict[str, Any]] = json.loads(project.run("graftline", "models", "--json"))
    return str(min(int(one["version"]) for one in versions))


@pytest.fixture
def with_a_step(project: Project) -> Iterator[Project]:
    """The project with the step that the document describes."""
    text = (ROOT / "docs" / "your-own-step.md").read_text(encoding="utf-8")
    work, task, imported, called = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (stage,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (project.root / "steps").mkdir()
    (project.root / "steps" / "inspect_images.py").write_text(work, encoding="utf-8")
    (project.root / "tasks" / "inspect.py").write_text(task, encoding="utf-8")
    for name, before, after in (
        ("dvc.yaml", "  assemble:\n", f"{stage}  assemble:\n"),
        ("flows/train.py", "from tasks.load import", f"{imported}from tasks.load import"),
        ("flows/train.py", "".join(called.splitlines(True)[::2]), called),
    ):
        path = project.root / name
        before_text = path.read_text(encoding="utf-8")
        assert before_text.count(before) == 1, (name, before)
        path.write_text(before_text.replace(before, after), encoding="utf-8")
    project.commit("a step of my own")
    yield project


def test_a_step_of_ones_own(with_a_step: Project) -> None:
    said = with_a_step.run("graftline", "run")
    assert re.search(r"preprocess cached.*inspect executed.*assemble cached", said), said
    assert "training images, " in said
    assert "Data and pipelines are up to date" in with_a_step.run("dvc", "repro")
    code = (
        "import mlflow\n"
        "mlflow.set_tracking_uri('sqlite:///var/mlflow/mlflow.db')\n"
        "run = mlflow.search_runs(search_all_experiments=True, output_format='list')[0]\n"
        "print(run.data.metrics['inspect/mean'])\n"
    )
    assert float(with_a_step.run("python", "-c", code).split()[-1]) > 5
    assert "inspect cached" in with_a_step.run("graftline", "run")
    assert re.search(r"\d passed", with_a_step.run("pytest", "-q"))
    said = with_a_step.run("graftline", "upgrade")
    assert "yours flows/train.py" in said and "inspect(images)" in said


def test_kills_lose_nothing_in_it(environment: Path) -> None:
    """The short version of ``make torture``; last, as it has the library save more often."""
    command = ("-m", "tests.torture", "--project", "--kills", "6", "--flips", "2", "--seed", "7")
    done = subprocess.run(
        [str(environment / "bin" / "python"), *command],
        cwd=ROOT,
        env={name: text for name, text in os.environ.items() if name not in HIDDEN},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "nothing was lost" in done.stdout
