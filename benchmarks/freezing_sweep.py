"""Holds `freeze.strategy: auto` against the exhaustive sweep: python -m benchmarks.freezing_sweep.

For each task every cut and every boundary of a grid is trained to its end, and then what ``auto``
and the textbook's rule chose; the test split tells how good each is, and nothing else. What is
finished is kept under ``var/sweep``, so that the command can be stopped and called again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.freezing_tasks import TASKS, Task
from graftline.artifacts import Assembled, FreezePlan
from graftline.assemble import RECORD, assemble
from graftline.calibration import accuracy_interval
from graftline.choosing.candidates import Candidate, make_candidate
from graftline.choosing.depths import choose_depths
from graftline.choosing.paired import p_worse
from graftline.choosing.records import Verdict
from graftline.extract import extract
from graftline.freeze import freeze
from graftline.load import load
from graftline.packed import PackedImages
from graftline.params import FirstBlocks, FreezeParams, LastBlocks, Params
from graftline.plans import Strategy, blocks_of
from graftline.preprocess import preprocess
from graftline.progress import progress
from graftline.storage import write_text
from graftline.train import fit
from graftline.workspace import Workspace

ROOT = Path("var/sweep")
CUTS = ("block_6_expand_relu", "block_12_add", "block_13_expand_relu", "out_relu")
STRATEGIES: tuple[Strategy, ...] = (
    "all",
    LastBlocks(last_blocks=2),
    LastBlocks(last_blocks=5),
    LastBlocks(last_blocks=9),
    FirstBlocks(first_blocks=3),
    "none",
)
_BATCH = 128
_HALVES = 2000


def main(arguments: Sequence[str]) -> int:
    """Sweeps, chooses, and shows the table."""
    options = _options(arguments)
    if not options.table:
        for name in options.tasks:
            run(TASKS[name])
    show([name for name in options.tasks if _chosen_file(name).exists()])
    return 0


def run(task: Task) -> None:
    """Everything for one task: its data, the choice, the sweep, and what was chosen."""
    workspace = Workspace((ROOT / task.name).resolve())
    params = task.params(workspace.root / "images.npz")
    assembled = _prepared(task, workspace, params)
    if not _chosen_file(task.name).exists():
        begun_s = time.monotonic()
        freeze(workspace, params)
        verdict = Verdict.read(workspace.freezing_report / "verdict.json")
        record = {
            "seconds": time.monotonic() - begun_s,
            "verdict": verdict.model_dump(mode="json"),
            "plan": json.loads(workspace.freeze_plan.read_text()),
        }
        write_text(_chosen_file(task.name), json.dumps(record, indent=2) + "\n")
    grid = _grid(assembled)
    with progress(task.name, len(grid), "trainings") as bar:
        for candidate in grid:
            trained(workspace, params, candidate)
            bar.advance(1, candidate.name)


def trained(workspace: Workspace, params: Params, candidate: Candidate) -> dict[str, Any]:
    """Trains one candidate to its end and evaluates it, unless that is done."""
    kept = workspace.root / "results" / f"{candidate.name.replace(' ', '-')}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    begun_s = time.monotonic()
    candidate.plan.write(workspace.freeze_plan)
    extract(workspace, params)
    fitted = fit(workspace, params)
    seconds = time.monotonic() - begun_s
    images = PackedImages.open(workspace.preprocessed)
    right = _right(fitted.graft, images, "test")
    count = len(images.indices("train"))
    epochs = params.tune.epochs if candidate.plan.trainable else params.train.epochs
    result = {
        "candidate": candidate.name,
        "plan": candidate.plan.model_dump(mode="json"),
        "right": int(right.sum()),
        "tested": len(right),
        "answers": np.packbits(right).tobytes().hex(),
        "validation_loss": fitted.history[fitted.best_epoch - 1]["validation_loss"],
        "best_epoch": fitted.best_epoch,
        "multiply_adds": candidate.training_cost(count, epochs * count),
        "seconds": seconds,
    }
    write_text(kept, json.dumps(result, indent=2) + "\n")
    return result


def show(names: Sequence[str]) -> None:
    """The table of all tasks, on the terminal and as Markdown in ``var/sweep/table.md``."""
    rows = [_row(name) for name in names]
    table = Table(title="auto against the sweep")
    for column in COLUMNS:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    Console(width=200).print(table)
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
    write_text(ROOT / "table.md", text)


COLUMNS = [
    "task",
    "trained",
    "best of the sweep, test accuracy",
    "auto, test accuracy (95 %)",
    "less than the best, points",
    "less than the best by other images",
    "p that it is no worse than the best",
    "textbook, test accuracy",
    "auto's cost, share of the sweep's",
    "seconds, auto / sweep",
]


def _row(name: str) -> list[str]:
    workspace = Workspace((ROOT / name).resolve())
    params = TASKS[name].params(workspace.root / "images.npz")
    assembled = Assembled.read(workspace.assembled / RECORD)
    chosen = json.loads(_chosen_file(name).read_text())
    verdict = Verdict.model_validate_json(json.dumps(chosen["verdict"]))
    auto = _of_plan(workspace, params, assembled, chosen["plan"])
    rule = _of_name(workspace, params, assembled, verdict.textbook)
    # Only the grid: what auto chose beside it must not make the sweep look dearer.
    grid = [trained(workspace, params, one) for one in _grid(assembled)]
    every = [*grid, auto, rule]
    best = max(every, key=lambda result: result["right"])
    low, high = accuracy_interval(auto["right"], auto["tested"])
    cost = sum(result["multiply_adds"] for result in grid)
    seconds = sum(result["seconds"] for result in grid)
    return [
        name,
        str(len(grid)),
        f"{_share(best)} {best['candidate']}",
        f"{_share(auto)} ({100 * low:.1f} to {100 * high:.1f}) {verdict.chosen}",
        f"{100 * (best['right'] - auto['right']) / auto['tested']:.2f}",
        f"{100 * _less_by_halves(auto, every):.2f}",
        f"{p_worse(_answers(auto), _answers(best)):.3f}",
        f"{_share(rule)} {verdict.textbook}",
        f"{verdict.spent / cost:.1%}",
        f"{chosen['seconds']:.0f} / {seconds:.0f}",
    ]


def _less_by_halves(auto: dict[str, Any], every: Sequence[dict[str, Any]]) -> float:
    """How much less than the sweep's best is right when the best is picked on other images.

    The best of many on the very images that it is picked by looks better than it is. So it is
    picked on one half of the test images and compared on the other; the mean over random halves.
    """
    right = np.array([_answers(result) for result in every], np.float64)
    of_auto = _answers(auto).astype(np.float64)
    chance = np.random.default_rng(0)
    less = []
    for _ in range(_HALVES):
        picked_on, compared_on = np.array_split(chance.permutation(len(of_auto)), 2)
        shares = right[:, picked_on].mean(axis=1)
        best = right[shares == shares.max()]
        less.append(best[:, compared_on].mean() - of_auto[compared_on].mean())
    return float(np.mean(less))


def _answers(result: dict[str, Any]) -> NDArray[np.bool_]:
    """Whether each test image is right."""
    packed = np.frombuffer(bytes.fromhex(result["answers"]), np.uint8)
    return np.unpackbits(packed, count=result["tested"]).astype(bool)


def _share(result: dict[str, Any]) -> str:
    return f"{100 * result['right'] / result['tested']:.2f}"


def _of_plan(
    workspace: Workspace, params: Params, assembled: Assembled, plan: dict[str, Any]
) -> dict[str, Any]:
    wanted = FreezePlan.model_validate_json(json.dumps(plan))
    strategy = _strategy(wanted.strategy)
    return trained(
        workspace, params, make_candidate(assembled, strategy, wanted.cut, wanted.batch_norm)
    )


def _of_name(
    workspace: Workspace, params: Params, assembled: Assembled, name: str
) -> dict[str, Any]:
    words, _, cut = name.partition(" at ")
    strategy = {"head only": "all", "everything": "none"}.get(words)
    if strategy is None:
        kind, count, _ = words.split()
        strategy = f"{kind}_blocks: {count}"
    return trained(workspace, params, make_candidate(assembled, _strategy(strategy), cut))


def _strategy(text: str) -> Strategy:
    strategy = FreezeParams(strategy=text).strategy
    if strategy == "auto":
        raise ValueError("auto is no plan")
    return strategy


def _grid(assembled: Assembled) -> list[Candidate]:
    """The head alone at every depth, and every boundary at an early, a middle and the last cut."""
    found = [make_candidate(assembled, "all", depth.layer) for depth in choose_depths(assembled)]
    for cut in CUTS:
        blocks = len(blocks_of(assembled.up_to(cut)))
        found += [
            make_candidate(assembled, strategy, cut)
            for strategy in STRATEGIES[1:]
            if not isinstance(strategy, LastBlocks) or strategy.last_blocks <= blocks
        ]
    return list({one.identity: one for one in found}.values())


def _prepared(task: Task, workspace: Workspace, params: Params) -> Assembled:
    record = workspace.assembled / RECORD
    if not record.exists():
        workspace.root.mkdir(parents=True, exist_ok=True)
        (x_train, y_train), (x_test, y_test) = task.make()
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


def _right(graft: Any, images: PackedImages, split: str) -> Any:
    import tensorflow as tf

    indices = images.indices(split)
    labels = images.labels[indices]
    answer = tf.function(lambda batch: graft(batch, training=False), reduce_retracing=True)
    right = np.zeros(len(indices), bool)
    for places, batch in images.batches(indices, _BATCH):
        right[places] = answer(tf.constant(batch)).numpy().argmax(axis=1) == labels[places]
    return right


def _chosen_file(name: str) -> Path:
    return ROOT / name / "chosen.json"


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.freezing_sweep")
    parser.add_argument("tasks", nargs="*", default=[*TASKS][:-1], metavar="TASK")
    parser.add_argument("--table", action="store_true", help="show what is finished")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.tasks if name not in TASKS]
    if unknown:
        parser.error(f"no task {unknown[0]}; there are {', '.join(TASKS)}")
    return options


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main(sys.argv[1:]))
