"""The closing summary: what came out, how good it is, where it lies, what to do next."""

from __future__ import annotations

import csv
import os
import shlex
from collections import Counter
from pathlib import Path

from rich.markup import escape

from graftline.core.counts import counted
from graftline.core.environment import CALLED_FROM_VARIABLE
from graftline.core.records import Exports, FreezePlan, Metrics
from graftline.core.workspace import Workspace
from graftline.operations.pages import pages_of_last_run
from graftline.orchestration.screen import Screen
from graftline.registry.promotion_report import line
from graftline.registry.promotions import Promotion
from graftline.registry.tracking import last_run

_UNSURE_WIDTH = 0.05
_MISCALIBRATED = 0.05
_SHOWN_DIFFERENCE = 0.00005


def show_closing(
    screen: Screen, workspace: Workspace, promotion: Promotion, seconds: float
) -> None:
    """Prints the summary of a finished run.

    Args:
        screen: Where to.
        workspace: Where the outputs lie.
        promotion: What ``promote`` returned.
        seconds: How long the whole run took.
    """
    metrics = Metrics.read_in(workspace)
    screen.summary(_rows(workspace, promotion, metrics), seconds)
    # Whole, so that a terminal makes links of them.
    for title, address in pages_of_last_run(workspace):
        screen.console.print(f"  {title:<10} {address}", markup=False, soft_wrap=True)


def _rows(workspace: Workspace, promotion: Promotion, metrics: Metrics) -> list[tuple[str, str]]:
    rows = [
        (
            "accuracy",
            f"{metrics.test_accuracy:.2%} of {counted(metrics.test_images, 'test image')} "
            f"(95 % interval {metrics.test_accuracy_low:.2%} to {metrics.test_accuracy_high:.2%}); "
            f"{_balanced(metrics)}always naming the most frequent class: "
            f"{metrics.majority_baseline:.2%}",
        ),
        (
            "confidence",
            f"off by {metrics.expected_calibration_error:.2%} on average "
            "(expected calibration error)",
        ),
    ]
    if chosen := _chosen_freezing(workspace):
        rows.append(("chosen", chosen))
    if weak := _weak_point(workspace.evaluation / "confusion.csv", metrics):
        rows.append(("weakest", weak))
    if exported := _exported(workspace):
        rows.append(("exports", exported))
    rows += [
        ("verdict", line(promotion)),
        ("model", _model(promotion)),
        (
            "files",
            f"{_relative(workspace, workspace.trained)}, "
            f"{_relative(workspace, workspace.metrics)}, "
            f"{_relative(workspace, workspace.evaluation)}",
        ),
        ("look", f"{_command(workspace, 'ui')} shows the run in Prefect and MLflow"),
        ("use", f"{_command(workspace, 'predict')} IMAGE …"),
    ]
    if (run := last_run(workspace)) and run.warning:
        rows.append(("repeat", escape(run.warning)))
    return rows


def _command(workspace: Workspace, name: str) -> str:
    """How a command is called from where the user stands: by the environment there, or any."""
    here = _here(workspace)
    own = Path(".venv", "bin", "graftline")
    program = str(own) if (here / own).is_file() else "graftline"
    place = os.path.relpath(workspace.root, here)
    return f"{program} {name}" + ("" if place == "." else f" -C {shlex.quote(place)}")


def _here(workspace: Workspace) -> Path:
    """Where the user stands: in the project, unless ``graftline run -C`` was called elsewhere."""
    return Path(os.environ.get(CALLED_FROM_VARIABLE) or workspace.root)


def _balanced(metrics: Metrics) -> str:
    """The accuracy with each class counting the same, where that is another."""
    balanced = metrics.balanced_accuracy
    if balanced is None or abs(balanced - metrics.test_accuracy) < _SHOWN_DIFFERENCE:
        return ""
    return f"with each class counting the same: {balanced:.2%}; "


def _model(promotion: Promotion) -> str:
    version, champion = promotion.challenger_version, promotion.champion_now
    if champion == version:
        return f"{promotion.model_name} version {version} (challenger and champion)"
    now = f"the champion is version {champion}" if champion else "there is no champion"
    return f"{promotion.model_name} version {version} (challenger); {now}"


def _chosen_freezing(workspace: Workspace) -> str | None:
    """What ``freeze.strategy: auto`` chose, and why; None where the parameters said it."""
    plan = FreezePlan.find_in(workspace)
    if plan is None or not plan.measured:
        return None
    return f"{plan.strategy}, cut after {plan.cut}. {plan.reason}."


def _exported(workspace: Workspace) -> str | None:
    """Each exported file with what it costs and keeps; None where there is none."""
    exports = Exports.find_in(workspace)
    told = [
        f"{one.path} ({one.size_bytes / 1e6:.2f} MB, {one.agreement:.2%} the same label)"
        for one in (exports.exported if exports else ())
    ]
    return f"{', '.join(told)} in {_relative(workspace, workspace.exports)}" if told else None


def _weak_point(confusion: Path, metrics: Metrics) -> str | None:
    sentences = []
    if pair := _most_confused(confusion):
        true, predicted, count, total = pair
        taken = "is taken" if count == 1 else "are taken"
        images = counted(total, "image")
        sentences.append(f"{count} of {images} of {true} {taken} for {predicted}")
    if metrics.classes:
        name, one = min(metrics.classes.items(), key=lambda item: item[1].f1)
        sentences.append(f"the lowest F1 is that of {name}, {one.f1:.3f}")
    if metrics.test_accuracy_high - metrics.test_accuracy_low > _UNSURE_WIDTH:
        sentences.append("the test split is small: the accuracy is known roughly only")
    if metrics.expected_calibration_error > _MISCALIBRATED:
        sentences.append("its probabilities should not be taken at their word")
    return "; ".join(sentences) or None


def _most_confused(confusion: Path) -> tuple[str, str, int, int] | None:
    try:
        with confusion.open(encoding="utf-8", newline="") as file:
            images = [(row["actual"], row["predicted"]) for row in csv.DictReader(file)]
    except (OSError, KeyError):
        return None
    wrong = Counter((true, predicted) for true, predicted in images if true != predicted)
    if not wrong:
        return None
    (true, predicted), count = wrong.most_common(1)[0]
    return true, predicted, count, sum(1 for actual, _ in images if actual == true)


def _relative(workspace: Workspace, path: Path) -> str:
    place = os.path.relpath(path, _here(workspace))
    return place + ("" if path.suffix else "/")
