"""Holds `freeze.strategy: auto` against the exhaustive sweep: python -m benchmarks.freezing_sweep.

For each task every cut and every boundary of a grid is trained to its end, and then what ``auto``
and the textbook's rule chose; the test split tells how good each is, and nothing else. What is
finished is kept under ``var/sweep``, so that the command can be stopped and called again with the
same code; what the table needs of a whole repeat is kept in ``docs/measurements/freezing``, so that
anyone can count it again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.freezing_grid import grid, of_name, of_plan
from benchmarks.freezing_table import Repeat, show
from benchmarks.freezing_tasks import TASKS, Task
from graftline.core.code_state import code_state
from graftline.core.files import sha256_record, write_text
from graftline.core.params import Params
from graftline.core.progress import progress
from graftline.core.records import Assembled, FreezePlan
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.selection.candidates import Candidate
from graftline.selection.records import Verdict
from graftline.steps.assemble import assemble
from graftline.steps.extract import extract
from graftline.steps.freeze import freeze
from graftline.steps.load import load
from graftline.steps.preprocess import preprocess
from graftline.steps.train import Fitted, fit

ROOT = Path("var/sweep")
RECORDS = Path("docs/measurements/freezing")
CHOSEN = "chosen.json"
_STEPS = ("load", "preprocess", "assemble", "freeze", "extract", "train")
_BATCH = 128
_TRAININGS_PER_PROCESS = 20


def main() -> None:
    """Sweeps, chooses, and shows the table."""
    options = _options()
    tasks = [TASKS[name] for name in options.tasks]
    if options.repeats:
        tasks = [replace(task, repeats=min(task.repeats, options.repeats)) for task in tasks]
    if not options.table:
        for task in tasks:
            for repeat in range(task.repeats):
                run(task, repeat, every=options.every, also=options.also)
    records = RECORDS / "every" if options.every else RECORDS
    for task in tasks:
        for number, finished in _finished(task, every=options.every, also=options.also):
            finished.write(_record_file(records, task, number))
    found = {task.name: recorded(records, task) for task in tasks}
    show({name: repeats for name, repeats in found.items() if repeats}, ROOT / "table.md")


def run(task: Task, repeat: int, *, every: bool, also: Sequence[str] = ()) -> None:
    """Everything for one repeat of a task: its data, the choice, the sweep, what was chosen."""
    workspace = workspace_of(task, repeat)
    params = task.params(workspace.root / "images.npz", repeat)
    assembled = prepared(task, repeat, workspace, params)
    chosen = workspace.root / CHOSEN
    if not chosen.exists():
        begun_s = time.monotonic()
        freeze(workspace, params)
        verdict = Verdict.read(workspace.freezing_report / "verdict.json")
        record = {
            "seconds": time.monotonic() - begun_s,
            "verdict": verdict.model_dump(mode="json"),
            "plan": FreezePlan.read_in(workspace).model_dump(mode="json"),
        }
        write_text(chosen, json.dumps(record, indent=2) + "\n")
    record = json.loads(chosen.read_text())
    wanted = [
        *grid(assembled, every=every),
        *(of_name(assembled, name) for name in also),
        of_plan(assembled, record["plan"]),
        of_name(assembled, record["verdict"]["textbook"]),
    ]
    # TensorFlow keeps up to 100 MB of each network that it traced: 138 of them fill a machine.
    process = ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), max_tasks_per_child=_TRAININGS_PER_PROCESS
    )
    with process, progress(task.folder(repeat), len(wanted), "trainings") as bar:
        for candidate in wanted:
            process.submit(trained, workspace, params, candidate).result()
            bar.advance(1, candidate.name)


def trained(workspace: Workspace, params: Params, candidate: Candidate) -> dict[str, Any]:
    """Trains one candidate to its end and evaluates it, unless that is done; what came of it."""
    kept = _result_file(workspace, candidate.name)
    if kept.exists():
        known: dict[str, Any] = json.loads(kept.read_text())
        return known
    begun_s = time.monotonic()
    fitted = fitted_to(workspace, params, candidate)
    seconds = time.monotonic() - begun_s
    images = PackedImages.open(workspace.preprocessed)
    right = answered_right(fitted.classifier, images, "test")
    result = {
        "candidate": candidate.name,
        "plan": candidate.plan.model_dump(mode="json"),
        "right": int(right.sum()),
        "tested": len(right),
        "answers": np.packbits(right).tobytes().hex(),
        "validation_loss": fitted.history[fitted.best_epoch - 1]["validation_loss"],
        "best_epoch": fitted.best_epoch,
        "multiply_adds": _multiply_adds(candidate, params, images),
        "seconds": seconds,
    }
    write_text(kept, json.dumps(result, indent=2) + "\n")
    return result


def fitted_to(workspace: Workspace, params: Params, candidate: Candidate) -> Fitted:
    """One candidate, trained to its end."""
    candidate.plan.write(workspace.freeze_plan)
    extract(workspace, params)
    return fit(workspace, params)


def tuned(task: Task, repeat: int, name: str, **tune: Any) -> tuple[Workspace, Params, Fitted]:
    """One candidate of a repeat, trained to its end with other values in the section ``tune``."""
    workspace = workspace_of(task, repeat)
    params = task.params(workspace.root / "images.npz", repeat)
    params = params.model_copy(update={"tune": params.tune.model_copy(update=tune)})
    candidate = of_name(prepared(task, repeat, workspace, params), name)
    return workspace, params, fitted_to(workspace, params, candidate)


def answered_right(classifier: Any, images: PackedImages, split: str) -> NDArray[np.bool_]:
    """Whether the network is right, for each image of a split, (n,)."""
    return answered(classifier, images, split)[1]


def answered(
    classifier: Any, images: PackedImages, split: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Probabilities for the images of a split, (n, classes), and whether each is right, (n,)."""
    import tensorflow as tf

    indices = images.indices(split)
    labels = images.labels[indices]
    answer = tf.function(lambda batch: classifier(batch, training=False), reduce_retracing=True)
    found = np.zeros((len(indices), int(classifier.output.shape[-1])), np.float32)
    for places, batch in images.batches(indices, _BATCH):
        found[places] = answer(tf.constant(batch)).numpy()
    return found, found.argmax(axis=1) == labels


def _multiply_adds(candidate: Candidate, params: Params, images: PackedImages) -> int:
    """Of its training to the end."""
    count = len(images.indices("train"))
    epochs = params.tune.epochs if candidate.plan.trainable else params.train.epochs
    return candidate.training_cost(count, epochs * count)


def _finished(task: Task, *, every: bool, also: Sequence[str] = ()) -> Iterator[tuple[int, Repeat]]:
    """The repeats of a task that have run to their end here, with their numbers."""
    for repeat in range(task.repeats):
        workspace = workspace_of(task, repeat)
        if not (workspace.root / CHOSEN).exists():
            continue
        chosen = json.loads((workspace.root / CHOSEN).read_text())
        assembled = Assembled.read_in(workspace)
        names = [*(one.name for one in grid(assembled, every=every)), *also]
        needed = {*names, chosen["verdict"]["chosen"], chosen["verdict"]["textbook"]}
        files = {name: _result_file(workspace, name) for name in needed}
        if all(file.exists() for file in files.values()):
            results = {name: json.loads(file.read_text()) for name, file in files.items()}
            params = task.params(workspace.root / "images.npz", repeat)
            images = PackedImages.open(workspace.preprocessed)
            exhaustive = sum(
                _multiply_adds(one, params, images) for one in grid(assembled, every=True)
            )
            yield repeat, Repeat(names, results, chosen, exhaustive, task.own_test)


def recorded(folder: Path, task: Task) -> list[Repeat]:
    """The repeats of a task that have run to their end, here or where they were recorded."""
    files = [_record_file(folder, task, repeat) for repeat in range(task.repeats)]
    return [Repeat.read(file) for file in files if file.exists()]


def workspace_of(task: Task, repeat: int) -> Workspace:
    """Where a repeat of a task lies."""
    return Workspace((ROOT / task.folder(repeat)).resolve())


def _record_file(folder: Path, task: Task, repeat: int) -> Path:
    return folder / f"{task.folder(repeat)}.json"


def _result_file(workspace: Workspace, name: str) -> Path:
    return workspace.root / "results" / f"{name.replace(' ', '-')}.json"


def prepared(task: Task, repeat: int, workspace: Workspace, params: Params) -> Assembled:
    """The images of a repeat, loaded and preprocessed, and the backbone, unless that is done.

    What other code has left there goes first: a sweep of two states of the code compares nothing.
    """
    record = Assembled.path_in(workspace)
    made_by = workspace.root / "made_by"
    now = sha256_record([code_state(f"graftline/steps/{one}.py", trains=True) for one in _STEPS])
    if not made_by.is_file() or made_by.read_text(encoding="utf-8") != now:
        for folder in (workspace.assembled, workspace.root / "results"):
            shutil.rmtree(folder, ignore_errors=True)
        (workspace.root / CHOSEN).unlink(missing_ok=True)
        write_text(made_by, now)
    if not record.exists():
        workspace.root.mkdir(parents=True, exist_ok=True)
        (x_train, y_train), (x_test, y_test) = task.make(repeat)
        np.savez(
            workspace.root / "images.npz",
            x_train=x_train,
            y_train=y_train,
            x_test=x_test,
            y_test=y_test,
        )
        # A relative path to weights is one from the checkout.
        shared = workspace.root.parent / "shared"
        if not shared.exists():
            shared.symlink_to(Path("../shared").resolve())
        for step in (load, preprocess, assemble):
            step(workspace, params)
    return Assembled.read(record)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.freezing_sweep")
    parser.add_argument("tasks", nargs="*", default=[*TASKS][:-1], metavar="TASK")
    parser.add_argument("--every", action="store_true", help="every cut and every boundary")
    parser.add_argument(
        "--repeats", type=int, metavar="N", help="no more than N of a task that is repeated"
    )
    parser.add_argument(
        "--also", action="append", default=[], metavar="NAME", help="a candidate beside the grid"
    )
    parser.add_argument("--table", action="store_true", help="train nothing, show what is there")
    options = parser.parse_args()
    unknown = [name for name in options.tasks if name not in TASKS]
    if unknown:
        parser.error(f"no task {unknown[0]}; there are {', '.join(TASKS)}")
    return options


if __name__ == "__main__":
    main()
