"""Images per second through the frozen backbone: Graftline's runner beside the others.

All run the same network, MobileNetV2 with alpha 1.0 up to its last layer, from raw uint8 images to
pooled features, several rounds, each in an order of its own; ratios are taken round by round.
Beside the seconds stand those that the cores were at work for it, since a machine that is shared
stretches the former more.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.backbones import build_backbone, random_images
from benchmarks.report import Spread, Table, ratios
from benchmarks.runners import GRAFTLINE, KERAS, Runner, runners
from graftline.core.progress import progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES_PX = (96, 160, 224)
CUT = "out_relu"
_ALPHA = 1.0
_IMAGES_AT_96 = 1024
_SAMPLE = 64
_REST_S = 0.2
"""Before each pass: the threads of some runners wait in a loop for a while after their own."""
GOAL_BEST, GOAL_KERAS = 0.95, 2.5


def measure(sizes_px: Sequence[int], rounds: int) -> dict[str, Any]:
    """Every runner at every size.

    Args:
        sizes_px: Heights and widths of the network's input.
        rounds: How often each runs over all images.
    """
    peaks = machine.matmul_peak_gflops()
    sizes = []
    with progress("extraction", len(sizes_px) * (rounds + 1), "rounds") as bar:
        for size_px in sizes_px:
            with tempfile.TemporaryDirectory(prefix="graftline-bench-") as folder:
                sizes.append(_one_size(size_px, rounds, Path(folder), bar))
        later = machine.matmul_peak_gflops()
    # The better of before and after: other programs at work must not make the share look good.
    peak = {name: max(rate, later[name]) for name, rate in peaks.items()}
    return {"cut": CUT, "peak_gflops": peak, "sizes": sizes}


def _one_size(size_px: int, rounds: int, folder: Path, bar: Any) -> dict[str, Any]:
    backbone = build_backbone(size_px, _ALPHA, CUT, folder)
    images = random_images(max(_SAMPLE, int(_IMAGES_AT_96 * (96 / size_px) ** 2)))
    present, absent = runners(backbone, images[:_SAMPLE])
    bar.advance(1, f"{size_px} px")
    reference = present[0].run(images[:_SAMPLE])
    differences = [float(np.abs(one.run(images[:_SAMPLE]) - reference).max()) for one in present]
    passes: list[list[Pass]] = [[] for _ in present]
    for number in range(rounds):
        # Shuffled, so that no runner comes always after the same one.
        for at in np.random.default_rng(number).permutation(len(present)):
            passes[at].append(_pass(present[at], images))
        bar.advance(1, f"{size_px} px")
    return {
        "size_px": size_px,
        "images": len(images),
        "multiply_adds": backbone.multiply_adds,
        "runners": [
            {
                "name": one.name,
                "setting": one.setting,
                "images_per_s": [round(len(images) / one_pass.seconds, 1) for one_pass in found],
                "core_ms_per_image": [
                    round(1000 * one_pass.core_s / len(images), 3) for one_pass in found
                ],
                "largest_difference": difference,
            }
            for one, found, difference in zip(present, passes, differences, strict=True)
        ],
        "absent": {one.name: one.reason for one in absent},
    }


@dataclass(frozen=True)
class Pass:
    """One pass over all images: how long it took, and how long cores were at work for it."""

    seconds: float
    core_s: float


def _pass(runner: Runner, images: NDArray[np.uint8]) -> Pass:
    time.sleep(_REST_S)
    started_s, started_core_s = time.perf_counter(), time.process_time()
    runner.run(images)
    return Pass(time.perf_counter() - started_s, time.process_time() - started_core_s)


def share_of_peak(multiply_adds: int, images_per_s: float, peak_gflops: float) -> float:
    """The part of the machine's fastest matrix multiplication that a runner reaches."""
    return 2 * multiply_adds * images_per_s / (peak_gflops * 1e9)


def verdicts(size: dict[str, Any]) -> dict[str, Spread]:
    """Graftline against Keras, and against the one to which it compares worst, round by round.

    Returns:
        By the other's name; the last is the fastest.
    """
    rates = {one["name"]: one["images_per_s"] for one in size["runners"]}
    others = {name: found for name, found in rates.items() if name != GRAFTLINE}
    found = {name: Spread.of(ratios(rates[GRAFTLINE], others[name])) for name in others}
    best = min(found, key=lambda name: found[name].median)
    return {name: found[name] for name in dict.fromkeys((KERAS, best))}


def tables(results: dict[str, Any]) -> list[Table]:
    """One table of rates, with ratios to Graftline."""
    peak = max(results["peak_gflops"].values())
    rows = []
    for size in results["sizes"]:
        ours = next(one for one in size["runners"] if one["name"] == GRAFTLINE)["images_per_s"]
        for one in size["runners"]:
            rate = Spread.of(one["images_per_s"])
            share = share_of_peak(size["multiply_adds"], rate.median, peak)
            ratio = Spread.of(ratios(ours, one["images_per_s"])).text(2)
            rows.append(
                (
                    f"{size['size_px']} px, {one['name']}",
                    one["setting"],
                    rate.text(0),
                    "" if one["name"] == GRAFTLINE else ratio,
                    f"{Spread.of(one['core_ms_per_image']).median:.2f}",
                    f"{100 * share:.0f} %",
                )
            )
        rows += [
            (f"{size['size_px']} px, {name}", f"absent: {reason}", "", "", "", "")
            for name, reason in size["absent"].items()
        ]
    heads = (
        "input, runner",
        "setting",
        "images per second",
        "Graftline / it",
        "core ms per image",
        "of matmul's peak",
    )
    title = f"The frozen backbone to `{results['cut']}`; median (lowest to highest) of the rounds"
    return [Table(title, heads, rows)]


def remarks(results: dict[str, Any]) -> list[str]:
    """What the goals come to, and what the peak is."""
    lines = []
    for size in results["sizes"]:
        found = verdicts(size)
        best = list(found)[-1]
        lines.append(
            f"- {size['size_px']} px: Graftline is {found[best].text(2)} times the fastest of the "
            f"others, {best} (goal {GOAL_BEST}), and {found[KERAS].text(2)} times Keras "
            f"(goal {GOAL_KERAS})."
        )
    peaks = ", ".join(f"{name} {rate:g}" for name, rate in results["peak_gflops"].items())
    differences = [
        one["largest_difference"] for size in results["sizes"] for one in size["runners"]
    ]
    return [
        "\n".join(lines),
        f"Matmul's peak is the fastest float32 product of two 2048 x 2048 matrices on all cores, "
        f"in 10^9 operations per second: {peaks}; a multiply-add is two. The features of any two "
        f"runners differ by at most {max(differences):.1e}.",
    ]


def draw(results: dict[str, Any]) -> Figure:
    """Rates relative to Graftline's, one group of bars per size."""
    from graftline.evaluation.style import BLUE, MUTED, new_figure, styled

    @styled
    def drawn() -> Figure:
        figure = new_figure(
            "Frozen backbone: images per second beside Graftline's",
            "bar: median of the rounds; line: lowest to highest; Graftline = 1",
            7.5,
            1.2 + 0.3 * sum(len(size["runners"]) + 1 for size in results["sizes"]),
        )
        axes = figure.add_subplot()
        labels: list[str] = []
        at = 0
        ticks = []
        for size in results["sizes"]:
            ours = size["runners"][0]["images_per_s"]
            for one in size["runners"]:
                spread = Spread.of(ratios(one["images_per_s"], ours))
                mine = one["name"] == GRAFTLINE
                axes.barh(at, spread.median, color=BLUE if mine else MUTED, height=0.7)
                axes.plot([spread.lowest, spread.highest], [at, at], color="#222222", linewidth=1)
                rate = Spread.of(one["images_per_s"]).median
                labels.append(f"{size['size_px']} px  {one['name']}  {rate:.0f}/s")
                ticks.append(at)
                at += 1
            at += 1
        axes.set_yticks(ticks, labels)
        axes.invert_yaxis()
        axes.set_xlabel("images per second, Graftline's = 1")
        axes.grid(axis="y", visible=False)
        return figure

    return drawn()
