"""A checkout whose stages take no time: the real DVC, Prefect and MLflow around toy steps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftline.core.workspace import Workspace
from tests.flows.toy_stage import COUNTED

CHECKOUT = Path(__file__).resolve().parents[2]
STAGES: dict[str, dict[str, Any]] = {
    "load": {"params": ["seed", "data"], "outs": ["data/loaded"]},
    "preprocess": {
        "deps": ["data/loaded"],
        "params": ["preprocess"],
        "outs": ["data/preprocessed"],
    },
    "assemble": {
        "deps": ["data/loaded"],
        "params": ["backbone", "head"],
        "outs": ["models/assembled"],
    },
    "freeze": {
        "deps": ["models/assembled"],
        "params": ["freeze"],
        "outs": ["models/freeze_plan.json", "reports/freezing"],
    },
    "extract": {
        "deps": ["data/preprocessed", "models/assembled", "models/freeze_plan.json"],
        "outs": ["data/features"],
    },
    "train": {
        "deps": ["data/features", "models/freeze_plan.json"],
        "params": ["seed", "train"],
        "outs": ["models/trained", "reports/history.csv"],
    },
    "evaluate": {
        "deps": ["data/loaded", "models/trained"],
        "params": ["evaluate"],
        "outs": ["reports/evaluation", "reports/metrics.json"],
    },
    "export": {
        "deps": ["data/preprocessed", "models/trained"],
        "params": ["export"],
        "outs": ["models/exports", "reports/exports"],
    },
}
PARAMS = """\
seed: 7  # a comment that must stay
data: {source: mnist-5k, path: data/no-files}
preprocess: {size_px: 32}
backbone: {weights: random, cut: block_13_expand_relu}
head: {units: [4]}
freeze:
  strategy: {last_blocks: 2}
train:
  learning_rate: 0.001 # Adam's
evaluate: {worst_mistakes: 0}
augment: {}
extract: {}
tune: {}
export: {formats: []}
register: {}
promote: {min_accuracy: 0.9, margin: -0.05, significance: 0.05, max_recall_drop: 0.1}
notify: {}
drift: {}
compute: {device: auto, precision: float32, strategy: auto, deterministic: true}
"""


def make(root: Path, mlflow_template: Path, *, repository: Path | None = None) -> Workspace:
    """A fresh toy checkout with a git commit, in a bigger repository if one is given."""
    import yaml

    root.mkdir(parents=True, exist_ok=True)
    workspace = Workspace(root)
    workspace.params_file.write_text(PARAMS, encoding="utf-8")
    stages = {
        name: {
            "cmd": f"python -m tests.flows.toy_stage {name}",
            **rest,
            "outs": [{out: {"persist": True}} for out in rest["outs"]],
        }
        for name, rest in STAGES.items()
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    (root / ".gitignore").write_text("/var\n/ran.txt\n", encoding="utf-8")
    use_history(mlflow_template, workspace)
    subdir = [] if repository is None else ["--subdir"]
    subprocess.run(["git", "init", "--quiet"], cwd=repository or root, check=True)
    for command in (
        [sys.executable, "-m", "dvc", "init", "--quiet", *subdir],
        ["git", "add", "."],
        ["git", "commit", "--quiet", "--message", "toy"],
    ):
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    return workspace


def use_history(template: Path, workspace: Workspace) -> None:
    """Gives a workspace a history of its own, with its tables made already."""
    place = workspace.var / "mlflow" / "mlflow.db"
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(template, place)


def ran(workspace: Workspace) -> list[str]:
    """The stages that ran, in order."""
    path = workspace.root / COUNTED
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """For a flow in a process of its own, which imports this checkout's code."""
    return {**os.environ, "PYTHONPATH": str(CHECKOUT), **more}


def command(*arguments: str) -> list[str]:
    """The flow's command line."""
    return [sys.executable, "-m", "flows.train", *arguments]
