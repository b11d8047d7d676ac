"""Where the seconds of ``make run`` go: cold, in a copy that has never run, and warm, right after.

The flow and each stage leave marks under ``var/timings``; what lies between two marks is attributed
to what goes on there. Orchestration is all that is not a stage's own work.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.checkouts import Finished, copied_checkout, run
from benchmarks.report import Table
from graftline.core.progress import progress
from graftline.core.stages import STAGES
from graftline.core.timings import FLOW, Span, file
from graftline.core.workspace import Workspace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GOALS_S = {"cold": 20.0, "warm": 10.0}
START, IMPORT, SERVER, PREFECT, DVC, STAGE_START, CLOSING, WORK = (
    "interpreter, parameters, lock",
    "importing Prefect",
    "waiting for Prefect's server",
    "Prefect around the steps",
    "DVC around the stages",
    "the stages' interpreters and imports",
    "registering, closing, leaving",
    "the stages' own work",
)
EACH = "orchestration_of_each_s"
PIECES = (START, IMPORT, SERVER, PREFECT, DVC, STAGE_START, CLOSING, WORK)


@dataclass(frozen=True)
class StageMarks:
    """When a stage's process was started, when it had its imports, and when it had its record."""

    born_s: float
    work_begin_s: float
    work_end_s: float


def measure(repeats: int) -> dict[str, Any]:
    """Cold and warm runs, each pair in a copy of its own.

    Args:
        repeats: How many pairs.
    """
    kinds: dict[str, list[dict[str, Any]]] = {"cold": [], "warm": []}
    with progress("make run", 2 * repeats, "runs") as bar:
        for _ in range(repeats):
            with copied_checkout() as root:
                for kind, found in kinds.items():
                    done = run(root, ["flows.train"])
                    found.append(_taken_apart(Workspace(root), done))
                    bar.advance(1, kind)
    return {"kinds": {kind: _middle(found) for kind, found in kinds.items()}, "repeats": repeats}


def pieces(
    spans: Sequence[Span], stages: dict[str, StageMarks], began_s: float, ended_s: float
) -> dict[str, float]:
    """The seconds of a run by what they were spent on; they add up to the whole.

    Args:
        spans: The flow's own marks.
        stages: Those of the stages that were run.
        began_s: When the command was started, in seconds since 1970.
        ended_s: When it had ended.
    """
    marks = {span.name: span for span in spans}
    found = dict.fromkeys(PIECES, 0.0)
    loaded, server, flow = marks["import"], marks.get("server"), marks["flow"]
    found[START] = loaded.begin_s - began_s
    found[IMPORT] = loaded.end_s - loaded.begin_s
    ready_s = server.end_s if server else loaded.end_s
    found[SERVER] = ready_s - loaded.end_s
    at_s = ready_s
    for name in STAGES:
        step = marks[f"step {name}"]
        found[PREFECT] += step.begin_s - at_s
        at_s = step.end_s
        if name in stages:
            stage = stages[name]
            found[STAGE_START] += stage.work_begin_s - stage.born_s
            found[WORK] += stage.work_end_s - stage.work_begin_s
            found[DVC] += stage.born_s - step.begin_s + step.end_s - stage.work_end_s
        else:
            found[PREFECT] += step.end_s - step.begin_s
    found[CLOSING] = ended_s - at_s
    if flow.end_s > ended_s:
        raise ValueError("the flow ended after its process")
    return found


def orchestration_s(found: dict[str, float]) -> float:
    """All that is not a stage's own work."""
    return sum(seconds for piece, seconds in found.items() if piece != WORK)


def _taken_apart(workspace: Workspace, done: Finished) -> dict[str, Any]:
    spans = _spans(file(workspace, FLOW))
    stages: dict[str, StageMarks] = {}
    for name in STAGES:
        record = json.loads(file(workspace, name).read_text(encoding="utf-8"))
        # A stage that was not run has the marks of an earlier run.
        if record["born_s"] >= done.began_s - 1:
            (work,) = [span for span in _spans(file(workspace, name)) if span.name == "work"]
            stages[name] = StageMarks(record["born_s"], work.begin_s, work.end_s)
    found = pieces(spans, stages, done.began_s, done.began_s + done.seconds)
    return {
        "seconds": done.seconds,
        "pieces": found,
        "work": {name: mark.work_end_s - mark.work_begin_s for name, mark in stages.items()},
    }


def _spans(path: Path) -> list[Span]:
    record = json.loads(path.read_text(encoding="utf-8"))
    return [Span(**span) for span in record["spans"]]


def _middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run whose orchestration is the median; a mean of several would be no run."""
    middle = statistics.median_low(orchestration_s(one["pieces"]) for one in runs)
    chosen = next(one for one in runs if orchestration_s(one["pieces"]) == middle)
    return {
        "seconds": round(chosen["seconds"], 2),
        "pieces": {name: round(seconds, 2) for name, seconds in chosen["pieces"].items()},
        "work": {name: round(seconds, 2) for name, seconds in chosen["work"].items()},
        EACH: [round(orchestration_s(one["pieces"]), 2) for one in runs],
    }


def tables(results: dict[str, Any]) -> list[Table]:
    """Seconds by piece, and the work by stage."""
    kinds = results["kinds"]
    rows = [
        (piece, *(f"{kind['pieces'][piece]:.1f}" for kind in kinds.values())) for piece in PIECES
    ]
    sums = [orchestration_s(kind["pieces"]) for kind in kinds.values()]
    rows.append(("orchestration: all but own work", *(f"{seconds:.1f}" for seconds in sums)))
    rows.append(("the whole", *(f"{kind['seconds']:.1f}" for kind in kinds.values())))
    rows += [
        (
            f"own work: {name}",
            *(
                f"{kind['work'][name]:.1f}" if name in kind["work"] else "not run"
                for kind in kinds.values()
            ),
        )
        for name in STAGES
    ]
    return [Table("Seconds of `make run`", ("spent on", *kinds), rows)]


def remarks(results: dict[str, Any]) -> list[str]:
    """What cold and warm mean, and what the goals come to."""
    met = ", ".join(
        f"{kind} {orchestration_s(results['kinds'][kind]['pieces']):.1f} s (goal {goal_s:g} s)"
        for kind, goal_s in GOALS_S.items()
    )
    if results["repeats"] > 1:
        each = "; ".join(
            kind + " " + ", ".join(f"{s:.1f}" for s in results["kinds"][kind][EACH])
            for kind in GOALS_S
        )
        met += f", the median of {results['repeats']} runs ({each})"
    return [
        "Cold is the first run in a fresh copy of the checkout: no `var/`, no DVC cache, no "
        "bytecode of its own. Warm is the same command right after it, when nothing is stale. "
        f"Orchestration: {met}."
    ]


def draw(results: dict[str, Any]) -> Figure:
    """One stacked bar per kind of run."""
    from graftline.evaluation.style import new_figure, styled

    colours = (
        "#999999",
        "#CC79A7",
        "#E69F00",
        "#F0E442",
        "#D55E00",
        "#56B4E9",
        "#009E73",
        "#0072B2",
    )

    @styled
    def drawn() -> Figure:
        figure = new_figure(
            "Where the seconds of make run go",
            "cold: the first run of a fresh checkout; warm: again, nothing is stale",
            9.0,
            3.4,
        )
        axes = figure.add_subplot()
        kinds = list(results["kinds"])
        lefts = dict.fromkeys(kinds, 0.0)
        for piece, colour in zip(PIECES, colours, strict=True):
            for at, kind in enumerate(kinds):
                seconds = results["kinds"][kind]["pieces"][piece]
                axes.barh(
                    at,
                    seconds,
                    left=lefts[kind],
                    color=colour,
                    height=0.6,
                    label=piece if at == 0 else None,
                )
                lefts[kind] += seconds
        axes.set_yticks(range(len(kinds)), kinds)
        axes.invert_yaxis()
        axes.set_xlabel("seconds")
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=9)
        return figure

    return drawn()
