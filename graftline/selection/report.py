"""The files of a choice: every number of the verdict can be recomputed from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graftline.core.csv_files import write_csv
from graftline.core.markdown import table
from graftline.core.records import Record
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.evaluation.style import percent, save
from graftline.selection.candidates import Candidate
from graftline.selection.choice import Choice
from graftline.selection.decision import p_words
from graftline.selection.plots import depth_profile, race_chart, race_order

VERDICT, VERDICT_TEXT = "verdict.json", "verdict.md"
PICTURES = ("depth_profile.png", "race.png")
_COSTS = ("once_cost", "step_cost", "inference_cost")
_RACED = ("rung", "accuracy", "standard_error", "p_value", "loss", "loss_p_value")


def write_report(workspace: Workspace, choice: Choice, folder: Path) -> None:
    """Writes all files of a choice into a folder.

    ``profile.csv``, ``learning_curve.csv`` and ``profile_answers.csv`` (each image's answers);
    ``candidates.csv``, ``race.csv`` and ``race_answers.csv`` (whether each held-out image is
    right, and its loss); ``verdict.json`` and ``verdict.md``; ``depth_profile.png`` and
    ``race.png``. Without a race its three files are absent.
    """
    images = PackedImages.open(workspace.preprocessed)
    write_records(folder / "profile.csv", choice.profile.scores)
    write_records(folder / "learning_curve.csv", choice.profile.curve)
    _write_profile_answers(images, choice, folder / "profile_answers.csv")
    rows = _candidate_rows(choice)
    write_csv(folder / "candidates.csv", [*rows[0]], (list(row.values()) for row in rows))
    save(depth_profile(choice.profile, choice.verdict), folder / PICTURES[0])
    if choice.race is not None:
        write_records(folder / "race.csv", choice.race.results)
        _write_race_answers(images, choice, folder / "race_answers.csv")
        order = race_order({one.name: one.cost for one in choice.candidates})
        save(race_chart(choice.race, order, choice.verdict), folder / PICTURES[1])
    choice.verdict.write(folder / VERDICT)
    (folder / VERDICT_TEXT).write_text(verdict_text(choice), encoding="utf-8")


def _candidate_rows(choice: Choice) -> list[dict[str, Any]]:
    """One row per candidate by column, with its last round; empty cells for one not raced."""
    last = {result.candidate: result for result in (choice.race.results if choice.race else ())}
    return [
        {
            "candidate": one.name,
            "strategy": one.plan.strategy,
            "cut": one.plan.cut,
            "boundary": one.plan.boundary or "",
            "batch_norm": one.plan.batch_norm,
            **{name: getattr(one, name) for name in _COSTS},
            **{name: getattr(last.get(one.name), name, "") for name in _RACED},
            "chosen": one.name == choice.verdict.chosen,
            "textbook": one.name == choice.textbook.name,
        }
        for one in choice.candidates
    ]


def verdict_text(choice: Choice) -> str:
    """The verdict as Markdown: the sentence, the candidates, the depths."""
    raced = ("candidate", "accuracy", "p", "loss", "p", "round", "train, M", "use, M")
    profiled = ("depth", "features", "multiply-adds", "probe", "behind the best")
    scores = (
        (
            score.layer,
            f"{score.features} x {score.side_px}²",
            f"{score.multiply_adds / 1e6:.1f} M",
            f"{percent(score.accuracy)} ± {100 * score.standard_error:.1f}",
            f"{100 * score.behind:.1f} ± {100 * score.behind_error:.1f}",
        )
        for score in choice.profile.scores
    )
    lines = [
        f"{choice.verdict.sentence}.",
        "",
        table(raced, (_candidate_cells(choice, one) for one in choice.candidates)),
        "",
        "M: millions of multiply-adds an image. p: that it is no worse than the best of its round, "
        "by paired tests of answers and of losses.",
        *_lengths(choice),
        "",
        table(profiled, scores),
        "",
    ]
    return "\n".join(lines)


def _lengths(choice: Choice) -> list[str]:
    """What the race did more briefly than ``train`` will."""
    if choice.race is None:
        return []
    shown = {result.rung: result.images_shown for result in choice.race.results}
    rounds = ", ".join(f"{images:,}" for images in shown.values())
    return [
        "",
        f"Each head was trained for all {choice.head_epochs} epochs of `train`. Tuning showed so "
        f"many images a fold, by round: {rounds}; to its end it would show "
        f"{choice.whole_tuning:,}.",
    ]


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Records of one kind as a table, numbers with all their digits."""
    columns = list(type(records[0]).model_fields)
    rows = ([getattr(record, column) for column in columns] for record in records)
    write_csv(path, columns, rows)


def _candidate_cells(choice: Choice, one: Candidate) -> tuple[object, ...]:
    results = [r for r in (choice.race.results if choice.race else ()) if r.candidate == one.name]
    name = f"**{one.name}**" if one.name == choice.verdict.chosen else one.name
    if one.name == choice.textbook.name:
        name += " (textbook)"
    measured: tuple[object, ...] = ("not raced", "", "", "", "")
    if results:
        last = results[-1]
        measured = (
            f"{percent(last.accuracy)} ± {100 * last.standard_error:.1f}",
            p_words(last.p_value).removeprefix("= "),
            f"{last.loss:.4f}",
            p_words(last.loss_p_value).removeprefix("= "),
            last.rung,
        )
    return name, *measured, f"{one.step_cost / 1e6:.1f}", f"{one.inference_cost / 1e6:.1f}"


def _write_profile_answers(images: PackedImages, choice: Choice, path: Path) -> None:
    profile = choice.profile
    columns = ["image", "label", "fold", *(score.layer for score in profile.scores)]
    columns += [f"{profile.best.layer}/{point.training_images}" for point in profile.curve[:-1]]
    answers = np.concatenate([profile.answers, profile.curve_answers[:-1]]).T
    rows = (
        (images.hashes[position], images.labels[position], fold, *given)
        for position, fold, given in zip(choice.sample, choice.folds, answers, strict=True)
    )
    write_csv(path, columns, rows)


def _write_race_answers(images: PackedImages, choice: Choice, path: Path) -> None:
    answers = choice.race.answers if choice.race else {}
    names = [f"{rung}/{name}" for rung, name in answers]
    columns = ["image", "label", *names, *(f"{name}/loss" for name in names)]
    right = np.stack([trial.right for trial in answers.values()], axis=1).astype(int)
    losses = np.stack([trial.losses for trial in answers.values()], axis=1)
    rows = (
        (images.hashes[position], images.labels[position], *given, *lost)
        for position, given, lost in zip(choice.race_positions, right, losses, strict=True)
    )
    write_csv(path, columns, rows)
