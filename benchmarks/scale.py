"""``python -m benchmarks.scale``: what each step takes as images and classes grow in number.

For each number of images and of classes it makes a project with images that were made up, and runs
every step as a process of its own, with a small network. Kept are seconds, CPU seconds and the most
memory that the process and all that it started held at once. What was measured before is not
measured again: ``results.json`` in the folder has it. With ``--again`` each step loses its figure
there when its new measurement begins.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import machine, report
from benchmarks.report import Table
from graftline.core.code_lock import lock_code
from graftline.core.files import write_text
from graftline.core.params.yaml_changes import with_values
from graftline.core.workspace import Workspace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PART = "scale"
_FOLDER = Path(tempfile.gettempdir()) / "graftline-scale"
_SIZES = ("10000x1000", "100000x1000", "100000x10000", "1000000x1000", "1000000x10000")
_FILES = "100000x1000"
_SIDE_PX, _TEMPLATE_PX = 28, 7
_BLOCK = 20_000
_LOOKS_EVERY_S = 0.1
_LIMIT_MB, _LIMIT_RATIO = 2000, 1.2
_STEPS = (
    "load",
    "preprocess",
    "assemble",
    "freeze",
    "extract",
    "train",
    "evaluate",
    "export",
    "register",
    "auto",
)
_BACKBONE: dict[str, Any] = {
    "name": "MobileNetV2",
    "alpha": 0.35,
    "weights": "random",
    "cut": "block_6_expand_relu",
}
_PARAMS: dict[str, dict[str, Any]] = {
    "data": {"source": "npz", "path": "images.npz"},
    "preprocess": {"size_px": 32},
    "backbone": _BACKBONE,
    "head": {"units": [64], "dropout": 0.0},
    "freeze": {"strategy": "all"},
    "train": {"epochs": 1, "batch_size": 256},
    "tune": {"epochs": 1, "batch_size": 256},
    "export": {"formats": ["litert_float16"]},
}
_EXPORT_LIMITS = {"min_agreement": 0.0, "max_class_drop": 1.0}
_REGISTER = """
from graftline.core.params import read_params
from graftline.core.workspace import Workspace
from graftline.registry.tracking import last_run
from graftline.steps.register import register
workspace = Workspace.here()
register(workspace, read_params(workspace.params_file), last_run(workspace).run_id)
"""


@dataclass(frozen=True)
class Size:
    """A source: how many images of how many classes, and whether each is a file."""

    images: int
    classes: int
    files: bool = False

    @classmethod
    def of(cls, text: str, files: bool = False) -> Size:
        """Of ``images x classes``, as in ``10000x1000``."""
        images, _, classes = text.partition("x")
        return cls(int(images), int(classes), files)

    @property
    def key(self) -> str:
        """As results name it."""
        return f"{self.images}x{self.classes}{'-files' if self.files else ''}"

    @property
    def told(self) -> str:
        """For tables."""
        return f"{self.images:,} of {self.classes:,} classes{', as files' if self.files else ''}"


def main(arguments: Sequence[str]) -> int:
    """Measures, and puts tables and picture into the documents where that is asked for.

    Returns:
        The exit code: 1 if a step failed.
    """
    options = _parser().parse_args(arguments)
    sizes = [Size.of(text) for text in options.sizes]
    sizes += [Size.of(text, files=True) for text in options.files]
    began_load = machine.load()
    console = Console()
    options.folder.mkdir(parents=True, exist_ok=True)
    kept = _Kept(options.folder / "results.json")
    failed = []
    if not options.show:
        failed = [size.key for size in sizes if not _measure(size, options, kept, console)]
    record = {"sizes": kept.values}
    for table in tables(record):
        table.print(console)
    for remark in remarks(record):
        console.print(remark, markup=False)
    if options.publish:
        packed = [key for key in kept.values if not key.endswith("-files")]
        files = [key.removesuffix("-files") for key in kept.values if key.endswith("-files")]
        command = " ".join(
            ["python -m benchmarks.scale", *packed, *(["--files", *files] if files else [])]
        )
        record = report.keep(_PART, command, began_load, record)
        report.publish(_PART, record, tables(record), remarks(record), draw(record))
    return 1 if failed else 0


class _Kept:
    """What was measured, in a file: by size, by step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.values: dict[str, dict[str, Any]] = {}
        if path.is_file():
            self.values = json.loads(path.read_text(encoding="utf-8"))

    def has(self, size: Size, step: str) -> bool:
        return step in self.values.get(size.key, {})

    def put(self, size: Size, step: str, value: dict[str, Any]) -> None:
        self.values.setdefault(size.key, {})[step] = value
        self._write()

    def drop(self, size: Size, step: str) -> None:
        """A measurement that fails leaves no figure of an earlier one."""
        if self.has(size, step):
            del self.values[size.key][step]
            self._write()

    def _write(self) -> None:
        write_text(self._path, json.dumps(self.values, indent=2) + "\n")


def _measure(size: Size, options: argparse.Namespace, kept: _Kept, console: Console) -> bool:
    """Runs the steps of one size that are to be measured; whether all of them ended well."""
    due = [step for step in options.steps if options.again or not kept.has(size, step)]
    if not due:
        return True
    root = options.folder / size.key
    if not (root / "params.yaml").is_file():
        console.print(f"{size.told}: making the images")
        _make_project(root, size)
    # The code may be another one than when the project was made.
    lock_code(Workspace(root))
    for step in due:
        kept.drop(size, step)
        strategy = "auto" if step == "auto" else "all"
        _set(root, {"freeze": {"strategy": strategy, "budget": options.budget}})
        found = _run(root, step, options)
        console.print(f"{size.told}: {step}: {_line(found)}", markup=False)
        if found["failed"]:
            return False
        kept.put(size, step, found | {"images": size.images})
    if not options.keep:
        shutil.rmtree(root)
    return True


def _line(found: dict[str, Any]) -> str:
    line = f"{found['seconds']} s, {found['cpu_s']} s of CPU, {found['peak_mb']} MB"
    return f"{line}; FAILED: {found['failed']}" if found["failed"] else line


def _run(root: Path, step: str, options: argparse.Namespace) -> dict[str, Any]:
    """One step in a process of its own: how long it took, and the most that all of it held."""
    command = {
        "register": [sys.executable, "-c", _REGISTER],
        "auto": [sys.executable, "-m", "graftline", "freeze"],
    }.get(step, [sys.executable, "-m", "graftline", step])
    log = root / f"{step}.log"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started_s = time.monotonic()
    with log.open("wb") as told:
        process = psutil.Popen(command, cwd=root, stdout=told, stderr=told)
        peak_bytes, over = 0, ""
        while process.poll() is None:
            peak_bytes = max(peak_bytes, _held_bytes(process))
            if time.monotonic() - started_s > options.limit_s:
                over = f"stopped after {options.limit_s:g} s"
            elif peak_bytes > 1e6 * options.limit_mb:
                over = f"stopped at {options.limit_mb:,} MB"
            if over:
                for one in [*process.children(recursive=True), process]:
                    one.kill()
                process.wait()
            time.sleep(_LOOKS_EVERY_S)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    failed = over or "\n".join(lines[-8:])
    return {
        "seconds": round(time.monotonic() - started_s, 1),
        "cpu_s": round(_cpu_s(after) - _cpu_s(before), 1),
        "peak_mb": round(peak_bytes / 1e6),
        "failed": failed if over or process.returncode else None,
    }


def _cpu_s(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


def _held_bytes(process: psutil.Popen) -> int:
    """The resident memory of a process and all that it started."""
    held_bytes = 0
    try:
        for one in [process, *process.children(recursive=True)]:
            held_bytes += one.memory_info().rss
    except psutil.Error:
        pass  # One has ended meanwhile; the next look counts the others.
    return held_bytes


def _make_project(root: Path, size: Size) -> None:
    from graftline.operations.new_project import make_project

    shutil.rmtree(root, ignore_errors=True)
    make_project(root, None)
    shutil.rmtree(root / "tests", ignore_errors=True)
    if size.files:
        _write_files(root / "images", size)
    else:
        _write_npz(root / "images.npz", size)
    source = {"source": "folder", "path": "images"} if size.files else _PARAMS["data"]
    limits = {section: {"litert_float16": value} for section, value in _EXPORT_LIMITS.items()}
    _set(root, {**_PARAMS, "data": source})
    _set(root, {"export": limits})


def _set(root: Path, record: dict[str, dict[str, Any]]) -> None:
    path = root / "params.yaml"
    keys = [f"{section}.{key}" for section, values in record.items() for key in values]
    write_text(path, with_values(path.read_text(encoding="utf-8"), record, keys, {}))


def images_of(size: Size) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int32]]]:
    """Images (n, 28, 28) and their labels (n,), block by block: a pattern per class, and noise."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 128, (size.classes, _TEMPLATE_PX, _TEMPLATE_PX), dtype=np.uint8)
    scale = _SIDE_PX // _TEMPLATE_PX
    for at in range(0, size.images, _BLOCK):
        labels = np.arange(at, min(at + _BLOCK, size.images), dtype=np.int32) % size.classes
        large = patterns[labels].repeat(scale, axis=1).repeat(scale, axis=2)
        yield large + rng.integers(0, 128, large.shape, dtype=np.uint8), labels


def _write_npz(path: Path, size: Size) -> None:
    folder = path.with_suffix(".parts")
    folder.mkdir()
    shape = (size.images, _SIDE_PX, _SIDE_PX)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, shape)
    labels = np.arange(size.images, dtype=np.int32) % size.classes
    at = 0
    for block, _ in images_of(size):
        images[at : at + len(block)] = block
        at += len(block)
    np.savez(path, images=images, labels=labels)
    del images
    shutil.rmtree(folder)


def _write_files(folder: Path, size: Size) -> None:
    for label in range(size.classes):
        (folder / f"class-{label:05d}").mkdir(parents=True)
    at = 0
    for block, labels in images_of(size):
        for image, label in zip(block, labels, strict=True):
            (folder / f"class-{label:05d}" / f"{at:07d}.png").write_bytes(_png(image))
            at += 1


def _png(image: NDArray[np.uint8]) -> bytes:
    """A grey image as a PNG file: Pillow takes ten times as long for one so small."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    height, width = image.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = np.pad(image, ((0, 0), (1, 0))).tobytes()
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tables(results: dict[str, Any]) -> list[Table]:
    """Seconds per 1 000 images and peaks, by step and size."""
    found = [
        (Size.of(key.removesuffix("-files"), key.endswith("-files")), values)
        for key, values in results["sizes"].items()
    ]
    found.sort(key=lambda one: (one[0].files, one[0].images, one[0].classes))
    columns = ("step", *(size.told for size, _ in found))

    def rows(shown: Any) -> list[tuple[str, ...]]:
        return [
            (step, *(shown(values[step]) if step in values else "" for _, values in found))
            for step in _STEPS
        ]

    return [
        Table("Seconds per 1 000 images (CPU seconds in brackets)", columns, rows(_pace)),
        Table("Most memory held at once, MB", columns, rows(lambda one: f"{one['peak_mb']:,}")),
    ]


def _pace(one: dict[str, Any]) -> str:
    thousands = one["images"] / 1000
    return f"{one['seconds'] / thousands:.3f} ({one['cpu_s'] / thousands:.3f})"


def remarks(results: dict[str, Any]) -> list[str]:
    """Which steps keep within the bounds, and which do not."""
    peaks = [
        f"{step} of {key} held {one['peak_mb']:,} MB"
        for key, values in results["sizes"].items()
        for step, one in values.items()
        if one["peak_mb"] > _LIMIT_MB
    ]
    held = f"Every step held at most {_LIMIT_MB:,} MB."
    return [
        f"More than {_LIMIT_MB:,} MB: {'; '.join(peaks)}." if peaks else held,
        *_growth(results),
    ]


def _growth(results: dict[str, Any]) -> list[str]:
    """Steps that take longer for an image of many than for one of few."""
    packed = {key: values for key, values in results["sizes"].items() if "files" not in key}
    by_images = sorted(packed, key=lambda key: Size.of(key).images)
    if len(by_images) < 2 or Size.of(by_images[0]).images == Size.of(by_images[-1]).images:
        return []
    few = by_images[0]
    lines = []
    for many in by_images:
        if Size.of(many).images != Size.of(by_images[-1]).images:
            continue
        for step in _STEPS:
            one, other = packed[few].get(step), packed[many].get(step)
            if one and other:
                ratio = (other["cpu_s"] / other["images"]) / (one["cpu_s"] / one["images"])
                if ratio > _LIMIT_RATIO:
                    lines.append(f"{step} of {many}: {ratio:.2f}")
    told = "; ".join(lines) or "none"
    return [f"CPU seconds per image above {_LIMIT_RATIO} times those of {few}: {told}."]


def draw(results: dict[str, Any]) -> Figure:
    """Peaks by step, a mark for each size."""
    from graftline.evaluation.style import BLUE, MUTED, VERMILION, new_figure, styled

    @styled
    def drawn() -> Figure:
        figure = new_figure(
            "Memory by step, as images and classes grow in number",
            "most that a step's processes held at once; the line is at 2 GB",
            8.5,
            4.6,
        )
        axes = figure.add_subplot()
        sizes = [Size.of(key) for key in results["sizes"] if "files" not in key]
        sizes.sort(key=lambda size: (size.classes, size.images))
        marks = {1000: ("o", BLUE), 10_000: ("s", VERMILION)}
        for at, step in enumerate(reversed(_STEPS)):
            for size in sizes:
                one = results["sizes"][size.key].get(step)
                if one is None:
                    continue
                mark, colour = marks.get(size.classes, ("D", MUTED))
                area = 12 * (np.log10(size.images) - 2) ** 1.5
                axes.scatter(
                    one["peak_mb"], at, s=area, color=colour, marker=mark, alpha=0.75, linewidth=0
                )
        axes.axvline(_LIMIT_MB, color=MUTED, linewidth=1)
        axes.set_yticks(range(len(_STEPS)), list(reversed(_STEPS)))
        axes.set_xlim(0, None)
        axes.set_xlabel("MB (circles: 1 000 classes; squares: 10 000; the larger, the more images)")
        return figure

    return drawn()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument(
        "sizes",
        nargs="*",
        metavar="IMAGESxCLASSES",
        default=list(_SIZES),
        help=f"packed sources (default: {' '.join(_SIZES)})",
    )
    parser.add_argument(
        "--files",
        nargs="*",
        metavar="IMAGESxCLASSES",
        default=[],
        help=f"sources with a file for each image, {_FILES} say (default: none)",
    )
    parser.add_argument(
        "--steps", nargs="+", choices=_STEPS, default=list(_STEPS), help="default: all of them"
    )
    parser.add_argument(
        "--folder", type=Path, default=_FOLDER, help=f"of the projects (default: {_FOLDER})"
    )
    parser.add_argument(
        "--limit-s", type=float, default=6 * 3600.0, help="of a step, seconds (default: 21600)"
    )
    parser.add_argument(
        "--limit-mb", type=int, default=12_000, help="of a step, memory (default: 12000)"
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=0.1,
        help="freeze.budget of auto: with 0.1, the default, most sizes pay for no race",
    )
    parser.add_argument("--keep", action="store_true", help="leave the projects where they are")
    parser.add_argument("--again", action="store_true", help="measure what was measured before")
    parser.add_argument("--show", action="store_true", help="measure nothing; show what is kept")
    parser.add_argument(
        "--publish", action="store_true", help="write all that is kept into docs/performance.*"
    )
    return parser


if __name__ == "__main__":
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    sys.exit(main(sys.argv[1:]))
