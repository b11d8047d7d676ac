"""The report on a batch: ``drift.json``, ``drift.md`` and ``drift.png`` beside its predictions."""

from __future__ import annotations

from pathlib import Path

from graftline.core.files import replacing_directory
from graftline.core.markdown import class_table, table
from graftline.core.params import DriftParams
from graftline.evaluation.feature_reference import FeatureSample, read_reference
from graftline.evaluation.style import percent
from graftline.inference.drift.decision import Drift, Judged, judge
from graftline.inference.model_choice import ChosenModel

PICTURE, RECORD, TEXT = "drift.png", "drift.json", "drift.md"
SHOWN = f"![The batch beside the training images]({PICTURE})"
_SMALLEST_P = 1e-100


def report_folder(predictions: Path) -> Path:
    """Where the report on some predictions lies."""
    return predictions.with_name(f"{predictions.stem}-drift")


def report_drift(
    model: ChosenModel,
    sample: FeatureSample | None,
    labels: dict[str, int],
    params: DriftParams,
    folder: Path,
) -> Drift:
    """Compares a batch with what its model was trained on, and writes the report.

    Args:
        model: What predicted.
        sample: Of the batch's images with their features; None if the model gives none.
        labels: The batch's images by label, the model's classes in their order.
        params: When a difference counts.
        folder: Where the report goes.

    Raises:
        MissingOutputError: If the model's reference is damaged.
    """
    judged = judge(read_reference(Path(model.folder)), sample, labels, params)
    write_report(judged, model, params, folder)
    return judged.drift


def write_report(judged: Judged, model: ChosenModel, params: DriftParams, folder: Path) -> None:
    """Writes the report in one move."""
    with replacing_directory(folder) as new:
        judged.drift.write(new / RECORD)
        (new / TEXT).write_text(markdown(judged.drift, model, params), encoding="utf-8")
        if judged.features is not None and judged.held_out is not None:
            from graftline.evaluation.style import save
            from graftline.inference.drift.plots import drift_picture

            figure = drift_picture(
                judged.drift, judged.features, judged.held_out, params.min_distance
            )
            save(figure, new / PICTURE)


def sentence(drift: Drift) -> str:
    """The verdict in one line."""
    if not drift.judged:
        return f"cannot be told: {drift.reason}"
    verdict = "DRIFTED" if drift.alarm else "none"
    return (
        f"{verdict}: {percent(drift.share)} of {drift.features:,} features differ from the "
        f"training images (alarm above {percent(drift.threshold)})"
    )


def markdown(drift: Drift, model: ChosenModel, params: DriftParams) -> str:
    """The report as a text."""
    head = f"# Drift: {model}\n\n{sentence(drift)}.\n"
    if not drift.judged:
        return head
    return "\n".join([head, _facts(drift, params), _top(drift), _labels(drift), f"{SHOWN}\n"])


def _facts(drift: Drift, params: DriftParams) -> str:
    return _titled(
        f"Distances are Kolmogorov-Smirnov's, from {drift.reference_images:,} training images.",
        ["", "this batch", "validation split"],
        [
            ["images", f"{drift.images:,}", f"{drift.held_out_images:,}"],
            [
                "median distance of a feature",
                f"{drift.median_distance:.3f}",
                f"{drift.held_out_median_distance:.3f}",
            ],
            [
                f"features beyond {params.min_distance:g} at p < {params.significance:g}",
                percent(drift.share),
                percent(drift.held_out_differing),
            ],
            ["p of no feature differing", _p(drift.smallest_p), ""],
            [
                "mean probability of the answers",
                f"{drift.confidence:.3f}",
                f"{drift.held_out_confidence:.3f}",
            ],
            ["p of the same probabilities", _p(drift.confidence_p), ""],
        ],
    )


def _top(drift: Drift) -> str:
    return _titled(
        "The features that moved most:",
        ["feature", "distance", "adjusted p", "moved by (sd)", "training mean", "batch mean"],
        [
            [
                str(one.feature),
                f"{one.distance:.3f}",
                _p(one.p_value),
                f"{one.shift:.2f}",
                f"{one.train_mean:.3g}",
                f"{one.batch_mean:.3g}",
            ]
            for one in drift.top
        ],
    )


def _labels(drift: Drift) -> str:
    shown = class_table(
        ["label", "training split", "this batch"],
        [
            [name, percent(share.train), percent(share.batch)]
            for name, share in drift.labels.items()
        ],
        worth=lambda row: -abs(drift.labels[str(row[0])].batch - drift.labels[str(row[0])].train),
        which="whose shares differ the most",
        all_in=RECORD,
    )
    return (
        f"Labels that the model gives (p of the same shares {_p(drift.labels_p)}, "
        f"{percent(drift.labels_distance)} of the answers differ):\n\n{shown}\n"
    )


def _p(value: float) -> str:
    """Smaller ones than this are lost in the tests' own arithmetic."""
    return f"{value:.2g}" if value >= _SMALLEST_P else f"< {_SMALLEST_P:g}"


def _titled(title: str, columns: list[str], rows: list[list[object]]) -> str:
    return f"{title}\n\n{table(columns, rows)}\n"
