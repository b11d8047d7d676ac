"""Task ``load``: has the source read, checked and split."""

from __future__ import annotations

from prefect.logging import get_run_logger

from graftline.core.counts import counted
from graftline.core.markdown import class_table, table
from graftline.core.records import SPLITS, Dataset
from graftline.core.workspace import Workspace
from graftline.orchestration import pipeline, publish
from graftline.orchestration.stage_task import run_stage, step


@step("load")
def load() -> Dataset:
    """Reads a source; leaves its counts as an artifact, and says if the champion knows others."""
    return run_stage("load", Dataset, _publish)


def _publish(workspace: Workspace, dataset: Dataset) -> None:
    splits = [split for split in SPLITS if split in dataset.counts]
    rows: list[list[object]] = [
        [name, *(dataset.counts[split].get(name, 0) for split in splits)]
        for name in dataset.classes
    ]
    classes = class_table(
        ["class", *splits],
        rows,
        worth=lambda row: sum(int(str(count)) for count in row[1:]),
        which="with the fewest images",
        all_in=str(Dataset.path_in(workspace).relative_to(workspace.root)),
        total=["**all**", *(dataset.total(split) for split in splits)],
    )
    findings = [
        ("broken and left out", dataset.corrupt),
        ("exact duplicates", dataset.duplicates),
        ("in more than one given split", dataset.leaks),
        ("under more than one label", dataset.conflicts),
    ]
    publish.markdown(
        "dataset",
        f"# {dataset.source}: {counted(dataset.total(), 'image')}, "
        f"{counted(len(dataset.classes), 'class', 'classes')}\n\n"
        f"{classes}\n\n"
        f"{table(['what was found', 'images'], findings)}\n\n"
        f"Digest `{dataset.digest}`.",
        "Images by class and split, and what was found wrong with them",
    )
    if told := pipeline.current().other_classes(dataset.classes):
        get_run_logger().warning(told)
