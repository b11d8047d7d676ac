"""A stage in no time: writes the records that the real step would, from its parameters alone."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from graftline.core.errors import DataError, GraftlineError
from graftline.core.exit_codes import leave_error
from graftline.core.files import write_text
from graftline.core.locks import pipeline_lock, stage_lock
from graftline.core.params import Params, read_params
from graftline.core.records import Features, Preprocessed
from graftline.core.workspace import Workspace
from graftline.steps.export import export
from tests import finished

COUNTED = Path("ran.txt")
"""One line for each stage that ran."""
_COPIED = {
    "load": ("data/loaded",),
    "assemble": ("models/assembled",),
    "freeze": ("models/freeze_plan.json", "reports/freezing"),
}


def main(stage: str) -> int:
    """Runs one toy stage as the stage runner would."""
    workspace = Workspace.here()
    try:
        params = read_params(workspace.params_file)
        with pipeline_lock(workspace), stage_lock(workspace, stage):
            _run(stage, workspace, params)
    except GraftlineError as error:
        leave_error(error)
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _run(stage: str, workspace: Workspace, params: Params) -> None:
    sys.stdout.write(f"{stage} says hello\n")
    with COUNTED.open("a", encoding="utf-8") as file:
        file.write(stage + "\n")
    if os.environ.get("TOY_FAILS") == stage:
        raise DataError(f"{stage} found a broken image", where="one.jpg", fix="mend one.jpg")
    if os.environ.get("TOY_HANGS") == stage:
        write_text(workspace.var / "hanging.pid", str(os.getpid()))
        time.sleep(600)
    if os.environ.get("TOY_WAITS") == stage:
        write_text(workspace.var / "waiting", stage)
        while not (workspace.var / "go").exists():
            time.sleep(0.05)
    if os.environ.get("TOY_DIES") == stage:
        os.kill(os.getpid(), 9)
    _write(stage, workspace, params)


def _write(stage: str, workspace: Workspace, params: Params) -> None:
    if stage == "train":
        finished.train(workspace, f"{params.seed} {params.train.learning_rate}")
    elif stage == "evaluate":
        finished.evaluate(workspace)
        rows = "actual,predicted\ndark,dark\nbright,dark\nbright,bright\n"
        write_text(workspace.evaluation / "confusion.csv", rows)
    elif stage == "export":
        export(workspace, params)
    elif stage == "preprocess":
        Preprocessed(
            dataset_digest=finished.digest_of("data"),
            size_px=params.preprocess.size_px,
            classes=finished.CLASSES,
            counts={"train": 80, "validation": 10, "test": 1000},
            uniform_shape=(28, 28, 1),
            shrunk=0,
        ).write(workspace.preprocessed / "preprocessed.json")
    elif stage == "extract":
        Features(
            cut="block_13_expand_relu",
            boundary="block_11_add",
            shape=(2, 2, 96),
            dtype="float16",
            counts={"train": 80},
            views=1,
            pooled_dim=576,
            uncached_reason=None,
        ).write(workspace.features / "features.json")
    else:
        _copy(stage, workspace)


def _copy(stage: str, workspace: Workspace) -> None:
    with TemporaryDirectory() as folder:
        template = Workspace(Path(folder))
        finished.finish(template)
        for name in _COPIED[stage]:
            source, target = template.root / name, workspace.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy(source, target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
