"""Whether memory stays flat as images grow in number, and whether decoding overlaps with inference.

Memory is the peak of the stage ``extract`` as a process of its own, over packed images of noise.
Overlap is measured on images of 256 px, kept as PNG: how much of the time in which images are
decoded and shrunk lies within the time in which LiteRT computes, and how long the whole takes
beside the same work one after the other.
"""

from __future__ import annotations

import io
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Spread, Table, ratios
from graftline.core.progress import progress
from graftline.core.records import Preprocessed
from graftline.core.workspace import Workspace
from graftline.data.shards import ShardWriter, write_manifest
from graftline.network.assembled import FROZEN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COUNTS = (5_000, 60_000)
_SIZE_PX = 96
_CLASSES = tuple(str(number) for number in range(10))
_DECODED_IMAGES, _DECODED_PX = 384, 256
_BATCH = 64
_ROUNDS = 3
_PEAK = "benchmarks.memory peak_bytes"


def measure() -> dict[str, Any]:
    """Peaks of both sizes, and the overlap."""
    with (
        tempfile.TemporaryDirectory(prefix="graftline-bench-") as folder,
        progress("memory", len(COUNTS) + 1, "measurements") as bar,
    ):
        models = _assembled(Path(folder) / "models")
        peaks = []
        for count in COUNTS:
            bar.advance(1, f"{count} images")
            peaks.append(_peak(Path(folder) / str(count), count, models))
        bar.advance(1, "overlap")
        return {"peaks": peaks, "overlap": _overlap(models.assembled / FROZEN)}


def main(arguments: Sequence[str]) -> int:
    """Extracts in the folder that is named, and prints the peak: run by :func:`measure`."""
    from graftline.core.params import read_params
    from graftline.steps.extract import extract

    params = read_params(Workspace.here().params_file)
    started_s = time.perf_counter()
    extract(Workspace(Path(arguments[0])), params)
    seconds = time.perf_counter() - started_s
    print(json.dumps({_PEAK: own_peak_bytes(), "seconds": seconds}))
    return 0


def own_peak_bytes() -> int:
    """The most memory that this process has held at once, in bytes."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # On Linux ru_maxrss begins at what the process held that started this one.
    lines = status.read_text(encoding="utf-8").splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return 1024 * int(peak)


def _assembled(root: Path) -> Workspace:
    """The network as ``assemble`` leaves it, and the plan that freezes all of it."""
    from graftline.core.params import read_params
    from graftline.network.freeze_plans import plan_freezing
    from graftline.steps.assemble import assemble

    workspace, params = Workspace(root), read_params(Workspace.here().params_file)
    workspace.loaded.mkdir(parents=True)
    (workspace.loaded / "classes.json").write_text(json.dumps(_CLASSES), encoding="utf-8")
    record = assemble(workspace, params)
    plan_freezing(record, "all").write(workspace.freeze_plan)
    return workspace


def _peak(root: Path, count: int, models: Workspace) -> dict[str, Any]:
    shutil.copytree(models.freeze_plan.parent, root / "models")
    _write_images(Workspace(root), count)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", str(root)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    shutil.rmtree(root)
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        "images": count,
        "peak_mb": round(found[_PEAK] / 1e6, 1),
        "images_per_s": round(count / found["seconds"], 1),
    }


def _write_images(workspace: Workspace, count: int) -> None:
    """Packed images of noise, as ``preprocess`` leaves them."""
    rng = np.random.default_rng(0)
    workspace.preprocessed.mkdir(parents=True)
    with ShardWriter(workspace.preprocessed) as shards:
        places = [
            shards.append(rng.integers(0, 256, 28 * 28, dtype=np.uint8).data) for _ in range(count)
        ]
    validation = count // 10
    columns = dict(zip(("shard", "offset", "length"), np.transpose(places), strict=True))
    columns |= {
        "sha256": [f"{number:064x}" for number in range(count)],
        "label": [number % 10 for number in range(count)],
        "class": [str(number % 10) for number in range(count)],
        "split": ["validation"] * validation + ["train"] * (count - validation),
        "source": [f"{number}" for number in range(count)],
        "encoding": ["raw"] * count,
        "height": [28] * count,
        "width": [28] * count,
        "channels": [1] * count,
    }
    write_manifest(workspace.preprocessed, columns)
    Preprocessed(
        dataset_digest="0" * 64,
        size_px=_SIZE_PX,
        classes=_CLASSES,
        counts={"train": count - validation, "validation": validation, "test": 0},
        uniform_shape=(28, 28, 1),
        shrunk=0,
    ).write(workspace.preprocessed / "preprocessed.json")


def _overlap(litert_file: Path) -> dict[str, Any]:
    files = _files()
    # One core to decode on, so that there is something to hide behind the other's work.
    rounds = [_one_round(files, litert_file) for _ in range(_ROUNDS + 1)][1:]
    return {
        name: [round(one[name], 3) for one in rounds]
        for name in ("one_after_the_other_s", "overlapped_s", "share_within_inference")
    }


def _one_round(files: list[bytes], litert_file: Path) -> dict[str, float]:
    from graftline.network.runners.litert import LiteRunner

    spans: dict[str, list[tuple[float, float]]] = {"decoding": [], "inference": []}

    def decoded() -> Iterator[NDArray[np.uint8]]:
        for at in range(0, len(files), _BATCH):
            begin_s = time.perf_counter()
            batch = np.stack([_decoded(one) for one in files[at : at + _BATCH]])
            spans["decoding"].append((begin_s, time.perf_counter()))
            yield batch

    class Watched(LiteRunner):
        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            begin_s = time.perf_counter()
            features = super().run(images)
            spans["inference"].append((begin_s, time.perf_counter()))
            return features

    with Watched(litert_file) as runner:
        started_s = time.perf_counter()
        for batch in decoded():
            runner.run(batch)
        apart_s = time.perf_counter() - started_s
        spans = {name: [] for name in spans}
        started_s = time.perf_counter()
        for _ in runner.run_all(decoded()):
            pass
        overlapped_s = time.perf_counter() - started_s
    return {
        "one_after_the_other_s": apart_s,
        "overlapped_s": overlapped_s,
        "share_within_inference": share_within(spans["decoding"], spans["inference"]),
    }


def share_within(
    spans: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]]
) -> float:
    """The part of the time of ``spans`` in which at least one of ``others`` goes on, too."""
    joined: list[tuple[float, float]] = []
    for begin, end in sorted(others):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    shared = sum(
        max(0.0, min(end, other_end) - max(begin, other_begin))
        for begin, end in spans
        for other_begin, other_end in joined
    )
    return shared / sum(end - begin for begin, end in spans)


def _files() -> list[bytes]:
    from PIL import Image

    rng = np.random.default_rng(0)
    files = []
    for _ in range(_DECODED_IMAGES):
        small = rng.integers(0, 256, (_DECODED_PX // 8, _DECODED_PX // 8, 3), dtype=np.uint8)
        with io.BytesIO() as file:
            Image.fromarray(small).resize((_DECODED_PX, _DECODED_PX)).save(file, "PNG")
            files.append(file.getvalue())
    return files


def _decoded(content: bytes) -> NDArray[np.uint8]:
    from graftline.data.decoding import decode
    from graftline.data.resize import shrink

    return shrink(decode(content, _DECODED_PX**2), _SIZE_PX)


def tables(results: dict[str, Any]) -> list[Table]:
    """Peaks by number of images; times with and without overlap."""
    peaks = [
        (f"{one['images']:,}", f"{one['peak_mb']:.0f}", f"{one['images_per_s']:.0f}")
        for one in results["peaks"]
    ]
    overlap = results["overlap"]
    apart, beside = overlap["one_after_the_other_s"], overlap["overlapped_s"]
    rows = [
        ("one after the other", Spread.of(apart).text(2), "", ""),
        (
            "as `extract` does it",
            Spread.of(beside).text(2),
            Spread.of(ratios(apart, beside)).text(2),
            f"{100 * Spread.of(overlap['share_within_inference']).median:.0f} %",
        ),
    ]
    return [
        Table(
            "Peak memory of `extract` with `params.yaml`, on packed 28x28 images",
            ("images", "peak, MB", "images per second"),
            peaks,
        ),
        Table(
            f"{_DECODED_IMAGES} PNG images of {_DECODED_PX} px, decoded, shrunk and run",
            ("way", "seconds", "times as fast", "of decoding within inference"),
            rows,
        ),
    ]


def remarks(results: dict[str, Any]) -> list[str]:
    """How much memory grows."""
    small, large = results["peaks"]
    return [
        f"From {small['images']:,} to {large['images']:,} images the peak grows by "
        f"{large['peak_mb'] - small['peak_mb']:.0f} MB (largest resident set of the process, "
        "pages of mapped files included)."
    ]


def draw(results: dict[str, Any]) -> Figure:
    """Peaks by number of images."""
    from graftline.evaluation.style import BLUE, new_figure, styled, thousands

    @styled
    def drawn() -> Figure:
        figure = new_figure(
            "Peak memory of extract",
            "largest resident set of the process, mapped files included",
            7.5,
            2.2,
        )
        axes = figure.add_subplot()
        for at, one in enumerate(results["peaks"]):
            axes.barh(at, one["peak_mb"], color=BLUE, height=0.6)
        axes.set_yticks(
            range(len(results["peaks"])),
            [f"{thousands(one['images'])} images" for one in results["peaks"]],
        )
        axes.invert_yaxis()
        axes.set_xlabel("MB")
        axes.grid(axis="y", visible=False)
        return figure

    return drawn()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
