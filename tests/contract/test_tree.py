"""What lies in the checkout, and what must stand in none of its files."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ASKED = [
    Requirement(text)
    for text in (
        *PROJECT["project"]["dependencies"],
        # All but heif, whose absence is tested.
        *(
            text
            for extra in ("cluster", "onnx", "openvino", "postgres", "s3")
            for text in PROJECT["project"]["optional-dependencies"][extra]
        ),
        *PROJECT["dependency-groups"]["dev"],
        *PROJECT["dependency-groups"]["published"],
    )
]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
ENTRY = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)(.*?)(?=^\S|\Z)", re.M | re.S)

# In pieces, so that this file does not hold what it looks for.
HOSTS = ("pypi" + ".org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com")
ABSOLUTE = re.compile(r"(?<![\w./~-])/(work|root|home)/\w")


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


def text_files() -> dict[str, str]:
    texts = {}
    for name in tracked():
        if (ROOT / name).is_symlink():
            continue
        content = (ROOT / name).read_bytes()
        if b"\0" not in content:
            texts[name] = content.decode("utf-8")
    return texts


def test_the_top_level_is_as_designed() -> None:
    assert {name.partition("/")[0] for name in tracked()} == {
        ".ci",
        ".dvc",
        ".dvcignore",
        ".gitattributes",
        ".gitignore",
        ".pre-commit-config.yaml",
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "benchmarks",
        "data",
        "docs",
        "dvc.yaml",
        "examples",
        "flows",
        "graftline",
        "graftline.lock",
        "models",
        "params.schema.json",
        "params.yaml",
        "prefect.yaml",
        "pyproject.toml",
        "reports",
        "requirements.lock",
        "scripts",
        "tasks",
        "tests",
    }


def test_no_file_names_a_registry_or_a_place_on_someones_machine() -> None:
    for name, text in text_files().items():
        for host in HOSTS:
            assert host not in text, f"{name} names {host}"
        found = ABSOLUTE.search(text)
        assert found is None, f"{name} names {found.group()}…" if found else ""


def test_nothing_large_is_committed() -> None:
    sizes = {name: (ROOT / name).stat().st_size for name in tracked()}
    assert {name: size for name, size in sizes.items() if size > 1_000_000} == {}


def test_folders_of_outputs_hold_nothing_but_what_git_ignores() -> None:
    outputs = [name for name in tracked() if name.split("/")[0] in ("data", "models", "reports")]
    # The text is data.path where there are no files; see docs/measurements/decisions.md.
    assert outputs == [
        "data/.gitignore",
        "data/no-files",
        "models/.gitignore",
        "reports/.gitignore",
    ]


def test_only_the_package_goes_into_the_wheel() -> None:
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["graftline"]


def test_telemetry_of_dvc_is_off() -> None:
    config = (ROOT / ".dvc" / "config").read_text(encoding="utf-8")
    for line in ("analytics = false", "check_update = false"):
        assert line in config


class TestLock:
    """``requirements.lock`` pins and hashes all that ``pyproject.toml`` asks for."""

    entries = ENTRY.findall(LOCK)

    def test_it_holds_no_address(self) -> None:
        assert "://" not in LOCK
        assert " @ " not in LOCK

    def test_every_line_is_a_pin_a_hash_or_a_comment(self) -> None:
        line = re.compile(
            r"[a-z0-9-]+==[^\s;]+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?| *#.*|"
        )
        wrong = [text for text in LOCK.splitlines() if not line.fullmatch(text)]
        assert wrong == []

    def test_every_package_has_a_hash(self) -> None:
        assert len(self.entries) > 100
        assert [name for name, _, rest in self.entries if "--hash=sha256:" not in rest] == []

    def test_it_agrees_with_the_project_file(self) -> None:
        pins: dict[str, list[Version]] = {}
        for name, version, _ in self.entries:
            pins.setdefault(name, []).append(Version(version))
        for requirement in ASKED:
            versions = pins.get(canonicalize_name(requirement.name), [])
            assert versions, f"{requirement}: not in the lock; make lock"
            assert all(version in requirement.specifier for version in versions), requirement

    def test_it_was_resolved_for_all_that_is_asked_and_nothing_else(self) -> None:
        reason = re.compile(r"# +(via )?graftline \(pyproject\.toml(:dev|:published)?\)")
        named = {name for name, _, rest in self.entries if reason.search(rest)}
        assert named == {canonicalize_name(requirement.name) for requirement in ASKED}

    def test_nothing_in_it_calls_home(self) -> None:
        assert "openvino-telemetry" not in {name for name, _, _ in self.entries}
