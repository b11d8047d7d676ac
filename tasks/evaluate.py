"""Task ``evaluate``: has the exported model measured on the whole test split."""

from __future__ import annotations

from graftline.core.markdown import class_table, table
from graftline.core.records import Dataset, Metrics, Trained
from graftline.core.workspace import Workspace
from graftline.orchestration import publish
from graftline.orchestration.stage_task import run_stage, step


@step("evaluate")
def evaluate(dataset: Dataset, trained: Trained) -> Metrics:
    """Measures ``trained`` on the test split of ``dataset``; leaves metrics and pictures."""
    return run_stage("evaluate", Metrics, _publish)


def _balanced(metrics: Metrics) -> list[tuple[str, str]]:
    balanced = metrics.balanced_accuracy
    return [] if balanced is None else [("with each class counting the same", f"{balanced:.4f}")]


def _publish(workspace: Workspace, metrics: Metrics) -> None:
    whole = [
        (
            "accuracy",
            f"{metrics.test_accuracy:.4f} "
            f"({metrics.test_accuracy_low:.4f} to {metrics.test_accuracy_high:.4f}, 95 %)",
        ),
        *_balanced(metrics),
        ("always the most frequent class", f"{metrics.majority_baseline:.4f}"),
        ("loss", f"{metrics.test_loss:.4f}"),
        ("macro F1", f"{metrics.test_macro_f1:.4f}"),
        ("expected calibration error", f"{metrics.expected_calibration_error:.4f}"),
        ("test images", metrics.test_images),
    ]
    classes = [
        (name, f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}", one.support)
        for name, one in metrics.classes.items()
    ]
    publish.markdown(
        "metrics",
        f"{table(['on the test split', 'value'], whole)}\n\n"
        + class_table(
            ["class", "precision", "recall", "F1", "images"],
            classes,
            worth=lambda row: float(str(row[3])),
            which="with the lowest F1",
            all_in="reports/evaluation/classes.json",
        ),
        "The exported model on the whole test split",
    )
    if pictures := sorted(workspace.evaluation.glob("*.png")):
        publish.markdown(
            "evaluation-pictures",
            "\n\n".join(publish.picture(path) for path in pictures),
            "Learning curves, confusion, reliability and the worst mistakes",
        )
